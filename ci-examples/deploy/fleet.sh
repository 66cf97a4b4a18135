#!/bin/sh
# Many hosts, from any CI: build here, push to all of them at once, and start it on one after the other. Where it does
# not start, the hosts behind are left alone, and all go back to what they had. start.sh lies beside the Dockerfile.
#
# Set as secrets, or files' contents, of the CI:
#   DEPLOY_SSH_KEY       secret: the private key, as it stands in its file
#   DEPLOY_KNOWN_HOSTS   the hosts' lines of known_hosts
#   FLEET                every host, with blanks between: deploy@web1.example.com deploy@web2.example.com
set -eu
image=app:$(git rev-parse HEAD)

eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_SSH_KEY" | ssh-add -q -
(umask 077 && mkdir -p ~/.ssh)
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >> ~/.ssh/known_hosts

docker build --tag "$image" .
export LAYERFERRY_IMAGES="$image" LAYERFERRY_TARGETS="$FLEET" LAYERFERRY_NAMES="app:latest $image"
export LAYERFERRY_KEEP_PREVIOUS=previous LAYERFERRY_THEN_FILE=start.sh LAYERFERRY_THEN_AFTER=one-by-one
status=0
layerferry run || status=$?
if [ "$status" -eq 8 ]; then # all of them have the image, and it has not started on one
  # shellcheck disable=SC2086 # one word for each host
  layerferry rollback $FLEET app:latest || true # what does not go back is told; the first time there is nothing
fi
exit "$status"
