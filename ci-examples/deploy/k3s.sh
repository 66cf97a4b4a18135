#!/bin/sh
# K3s, from any CI: build here, push to each node what its containerd lacks, roll the deployment over. containerd's
# socket is root's on a k3s node, hence root@; the pods keep Kubernetes' own `imagePullPolicy: IfNotPresent`. On nodes
# that have a docker or podman too, write root@node?engine=k3s.
#
# Set as secrets, or files' contents, of the CI:
#   DEPLOY_SSH_KEY       secret: the private key, as it stands in its file
#   DEPLOY_KNOWN_HOSTS   the nodes' lines of known_hosts
#   K3S_SERVER           root@server.example.com, where kubectl is run
#   K3S_NODES            every node that may run the pods, with commas between: root@server.example.com,root@node
set -eu
image=app:$(git rev-parse HEAD)

eval "$(ssh-agent -s)" > /dev/null
trap 'ssh-agent -k > /dev/null' EXIT
printf '%s\n' "$DEPLOY_SSH_KEY" | ssh-add -q -
(umask 077 && mkdir -p ~/.ssh)
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >> ~/.ssh/known_hosts

docker build --tag "$image" .
LAYERFERRY_IMAGES=$image LAYERFERRY_TARGETS=$K3S_NODES layerferry run
# shellcheck disable=SC2029 # the names are filled in here
ssh "$K3S_SERVER" "k3s kubectl set image deployment/app app=docker.io/library/$image &&
  k3s kubectl rollout status deployment/app --timeout=5m"
