# shellcheck shell=sh disable=SC2034,SC2154 # parts share variables
# The way to docker through its API, over its socket: docker's command takes 40 ms to start, curl 6.

# api OPTION... URL: what docker answers is JSON without a space, and a line.
at=http://docker
api() { curl -qgsS --noproxy '*' --unix-socket "$socket" "$@"; }

# complain TEXT: the message of an error in docker's JSON, or all of what curl says.
complain() { say "$1" | sed 's/.*"message":"//; s/"[,}].*//' >&2; }

# tell names|layers: that of images in docker's JSON.
tell() { sed 's/"Labels":{[^{}]*}//g' | awk -v what="$1" '@docker_images.awk@'; }

# fetch names|layers: that of the images whose IDs or names stand on stdin.
fetch() { sed "s|.*|url = \"$at/images/&/json\"|" | api -f -K - 2>/dev/null | tell "$1"; }

# find_socket: sets $socket to docker's, if it is open to us and what docker's command would talk to.
find_socket() {
  case ${DOCKER_HOST-} in
    unix://*) socket=${DOCKER_HOST#unix://} ;;
    '')
      [ -z "${DOCKER_CONTEXT-}" ] || return
      ! grep -qs '"currentContext"' "${DOCKER_CONFIG:-${HOME-}/.docker}/config.json" || return
      socket=/var/run/docker.sock ;;
    *) return 1 ;;
  esac
  has curl && [ -w "$socket" ]
}

api_probe() { find_socket && told=$(api_info 2>/dev/null); }

# podman answers on such a socket too.
api_info() {
  api -f "$at/info" "$at/version" | awk '
    BEGIN { RS = ","; FS = "\"" }
    $3 == ":" && !($2 in fact) { fact[$2] = $4 }
    $2 ~ /^io.containerd.snapshotter/ { status = $2 }
    /"name=rootless/ { owner = "name=rootless" }
    $2 == "Arch" { own = $4 "/" }
    END {
      if (!("BuildahVersion" in fact))
        print fact["ServerVersion"], fact["OSType"] "/" own fact["Architecture"], fact["Driver"], fact["DockerRootDir"], status, owner
    }'
}

# The containerd store takes 15 ms for each image (docker 28.5).
api_list() {
  case ${1-} in
    '') api -f "$at/images/json" 2>/dev/null | tell names ;;
    ours) api -f "$at/images/json?filters=%7B%22reference%22%3A%5B%22localhost%2Flayerferry%22%5D%7D" | tell names ;;
    *) printf '%s\n' "$@" | fetch names ;;
  esac
}

api_layers() { fetch layers; }

api_folders() {
  text=$(api -f "$at/images/$1/json") || return
  for one in UpperDir LowerDir; do say "$text" | sed -n "s/.*\"$one\":\"\([^\"]*\)\".*/\1/p"; done
}

api_show() { printf '%s\n' "$@" | fetch layers; }

# Where the load fails, the stream of what docker says has begun with a 200, and ends with a message.
api_load() {
  text=$(api -X POST -H Expect: -H 'Content-Type: application/x-tar' -T - "$at/images/load?quiet=1" 2>&1) &&
    case $text in *'"message":'*) false ;; esac && return
  complain "$text"
  return 1
}

api_tag() {
  text=$(api -X POST "$at/images/$1/tag?repo=${2%:*}&tag=${2##*:}" 2>&1) && [ -z "$text" ] || { complain "$text"; return 1; }
}

api_remove() { api -X DELETE "$at/images/$1"; }

api_push() {
  text=$(api -f -m 10 -X POST -K - "$at/images/${1%:*}/push?tag=${1##*:}" <<HEADER
header = "X-Registry-Auth: $2"
HEADER
) || return
  case $text in *'"error":'*) return 1 ;; esac
}
