# shellcheck shell=sh disable=SC2034,SC2154 # parts share variables
# Layers of images, through docker's API: to it, where it has them, and from it.

# Where the load fails, the stream of what docker says has begun with a 200, and ends with a message.
api_load() {
  text=$(api -X POST -H Expect: -H 'Content-Type: application/x-tar' -T - "$at/images/load?quiet=1" 2>&1) &&
    case $text in *'"message":'*) false ;; esac && return
  complain "$text"
  return 1
}

api_folders() {
  text=$(api -f "$at/images/$1/json") || return
  for one in UpperDir LowerDir; do say "$text" | sed -n "s/.*\"$one\":\"\([^\"]*\)\".*/\1/p"; done
}

api_push() {
  text=$(api -f -m 10 -X POST -K - "$at/images/${1%:*}/push?tag=${1##*:}" <<HEADER
header = "X-Registry-Auth: $2"
HEADER
) || return
  case $text in *'"error":'*) return 1 ;; esac
}
