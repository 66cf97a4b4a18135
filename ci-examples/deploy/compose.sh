#!/bin/sh
# Docker compose, from any CI: build here, push what the host lacks, and let compose, which runs here too, start it on
# the host's engine. compose.yaml stays in the repository; the host needs docker and sshd, nothing else.
#
# Set as secrets, or files' contents, of the CI:
#   DEPLOY_SSH_KEY       secret: the private key, as it stands in its file
#   DEPLOY_KNOWN_HOSTS   the host's lines of known_hosts
#   DEPLOY_TARGET        deploy@host.example.com, a user of the group docker
set -eu
IMAGE=app:$(git rev-parse HEAD)
export IMAGE # compose.yaml asks for it

eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_SSH_KEY" | ssh-add -q -
(umask 077 && mkdir -p ~/.ssh)
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >> ~/.ssh/known_hosts

docker build --tag "$IMAGE" .
layerferry push "$IMAGE" "$DEPLOY_TARGET"
DOCKER_HOST="ssh://$DEPLOY_TARGET" docker compose up --detach --no-build --wait
