# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $told is words
# What the other parts stand on: where programs are, how a line is said, and what a word of the client's must be like.
# Whoever made a word that we read, it is looked at before it becomes a part of a URL or a command.
export LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/snap/bin:/opt/bin:/opt/docker/bin
# Homebrew, NixOS, Nix, and Canonical's Kubernetes.
PATH=$PATH:/opt/homebrew/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/snap/k8s/current/bin
# Synology: Container Manager, and Docker before it. QNAP: Container Station, on any volume.
PATH=$PATH:/var/packages/ContainerManager/target/usr/bin:/var/packages/Docker/target/usr/bin
for one in /share/*/.qpkg/container-station/bin; do PATH=$PATH:$one; done
# Rootless docker's installer, Docker Desktop, OrbStack, Rancher Desktop, Nix.
for one in bin .local/bin .docker/bin .orbstack/bin .rd/bin .nix-profile/bin; do PATH=$PATH:${HOME-}/$one; done
set -f
# Capabilities that a part adds which is not always sent; the words that make a command root's, and what may find others.
more='' root='sudo -n' unlock=false

say() { printf '%s\n' "$*"; }

# fail KIND TEXT: the verdict, one line; TEXT is an engine's, so control characters go.
fail() {
  kind=$1
  shift
  say "failed $kind $(printf '%s' "$*" | tr -s '\000-\037' ' ' | cut -c 1-2000)"
  exit 1
}

# refuse VERB WORD: what the client should not have said. Nothing was done of it.
refuse() { fail protocol "$*"; }

# answers: whether $told is what an engine says of itself. What it calls its version may be any word.
answers() {
  set -- $told
  case ${2-} in *[!A-Za-z0-9_/]* | /* | */) false ;; */*) ;; *) false ;; esac
}

has() { command -v "$1" >/dev/null 2>&1; }

is_digest() {
  case $1 in sha256:*[!0-9a-f]*) return 1 ;; sha256:*) [ ${#1} = 71 ] ;; *) return 1 ;; esac
}

# What further parts of this script do otherwise.
obey() { refuse "$verb"; }
drop() { :; }
forget() { :; }
