#!/bin/sh
# A docker or podman that plays answers: what it is asked is written to $FAKE/calls, what it says stands in $FAKE.
#
#   $FAKE/info  $FAKE/ls  $FAKE/show.NAME      what `info`, `image ls` and `image inspect NAME` print
#   $FAKE/list                                 what `image inspect` of several IDs prints
#   $FAKE/status.VERB  $FAKE/stderr.VERB       how a verb ends (0), and what it says on stderr (nothing)
#   $FAKE/loaded                               what `load` was given
#   $FAKE/named                                lines "NAME IMAGE": what `tag` was given; who moves a name adds one
#   $FAKE/login                                the folder that --config gave, and the config.json in it
case $1 in --config) { ls -ld "$2"; cat "$2/config.json"; } >"$FAKE/login"; shift 2 ;; esac
printf '%s\n' "$*" >>"$FAKE/calls"
# shown NAME: the file for what `inspect NAME` prints
shown() { printf '%s/show.' "$FAKE"; printf '%s' "$1" | tr '/:' '__'; }
# image NAME: the ID that it shows: as it was named, listed, or loaded
image() {
  short=${1#docker.io/} short=${short#library/} at=$1
  [ ! -e "$FAKE/named" ] || at=$(awk -v name="$1" '$1 == name { at = $2 } END { print at }' "$FAKE/named")
  [ "$at" ] || at=$1
  [ "$at" != "$1" ] || at=$(awk -v at="$1" -v name="$short" '$2 == name || $2 == at { at = $1 } END { print at }' "$FAKE/ls")
  if [ -e "$(shown "$at")" ]; then cut -d ' ' -f 1 "$(shown "$at")"; else echo "$at"; fi
}
verb=$1
case "$1 $2" in
  "image inspect") verb=inspect ;;
  "image ls") verb="ls" ;;
  "image rm") verb="rm" ;;
esac
case $verb in
  info) cat "$FAKE/info" ;;
  ls) cat "$FAKE/ls" ;;
  inspect)
    shift 4
    if [ $# = 1 ] && [ -e "$(shown "$1")" ]; then cat "$(shown "$1")"
    elif [ $# = 1 ] && grep -qs "^$1 " "$FAKE/named"; then image "$1"; else
      # Images beside names: each one's ID will do.
      case ${2-sha256:} in sha256:*) cat "$FAKE/list" ;; *) for name; do image "$name"; done ;; esac
    fi ;;
  load) cat >"$FAKE/loaded" ;;
  tag) printf '%s %s\n' "$3" "$2" >>"$FAKE/named" ;;
esac
[ ! -e "$FAKE/stderr.$verb" ] || cat "$FAKE/stderr.$verb" >&2
[ ! -e "$FAKE/status.$verb" ] || exit "$(cat "$FAKE/status.$verb")"
