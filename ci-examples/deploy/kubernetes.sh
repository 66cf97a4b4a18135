#!/bin/sh
# Kubernetes, or any fleet with a registry of its own, from any CI: build here, push what that registry lacks through
# the one host that reaches it, roll the deployment over. The nodes pull as they always do; Spegel, Dragonfly or
# Harbor's replication spread the layers from there. The key needs no shell: `restrict,port-forwarding` stands before it
# in the bastion's authorized_keys. A registry that wants a login: `docker login` here, or DOCKER_AUTH_CONFIG.
#
# Set as secrets, or files' contents, of the CI:
#   DEPLOY_SSH_KEY       secret: the private key, as it stands in its file
#   DEPLOY_KNOWN_HOSTS   the hosts' lines of known_hosts
#   DEPLOY_BASTION       jump@bastion.example.com, which reaches the registry
#   CLUSTER_REGISTRY     registry.internal:5000, as the nodes and the bastion know it
#   KUBECTL_HOST         deploy@control.example.com, where kubectl is run
set -eu
image=app:$(git rev-parse HEAD)

eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_SSH_KEY" | ssh-add -q -
(umask 077 && mkdir -p ~/.ssh)
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >> ~/.ssh/known_hosts

docker build --tag "$image" .
layerferry push "$image" "registry://$CLUSTER_REGISTRY" --via "$DEPLOY_BASTION"
# shellcheck disable=SC2029 # the names are filled in here
ssh "$KUBECTL_HOST" "kubectl set image deployment/app app=$CLUSTER_REGISTRY/$image &&
  kubectl rollout status deployment/app --timeout=5m"
