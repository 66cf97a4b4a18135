# shellcheck shell=sh disable=SC2034,SC2154 # parts share variables
# Names of images, through docker's API.

# complain TEXT: the message of an error in docker's JSON, or all of what curl says.
complain() { say "$1" | sed 's/.*"message":"//; s/"[,}].*//' >&2; }

api_tag() {
  text=$(api -X POST "$at/images/$1/tag?repo=${2%:*}&tag=${2##*:}" 2>&1) && [ -z "$text" ] || { complain "$text"; return 1; }
}

api_remove() { api -X DELETE "$at/images/$1"; }
