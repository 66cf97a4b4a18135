#!/bin/sh
# Dokku, from any CI: build here, push what the host lacks, deploy it with `git:from-image`, which pulls nothing that
# the host has. layerferry logs in as `deploy`, a user of the group docker, for the user `dokku` runs nothing but dokku;
# both accept the key (`dokku ssh-keys:add ci key.pub`). The tag is the commit's: dokku deploys no tag twice.
#
# Set as secrets, or files' contents, of the CI:
#   DEPLOY_SSH_KEY       secret: the private key, as it stands in its file
#   DEPLOY_KNOWN_HOSTS   the host's lines of known_hosts
#   DOKKU_HOST           dokku.example.com
#   DOKKU_APP            the app's name
set -eu
image=$DOKKU_APP:$(git rev-parse HEAD)

eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_SSH_KEY" | ssh-add -q -
(umask 077 && mkdir -p ~/.ssh)
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >> ~/.ssh/known_hosts

docker build --tag "$image" .
layerferry push "$image" "deploy@$DOKKU_HOST"
# shellcheck disable=SC2029 # the names are filled in here
ssh "dokku@$DOKKU_HOST" git:from-image "$DOKKU_APP" "$image"
