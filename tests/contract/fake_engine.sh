#!/bin/sh
# A docker or podman that plays answers: what it is asked is written to $FAKE/calls, what it says stands in $FAKE.
#
#   $FAKE/info  $FAKE/ls  $FAKE/show.NAME      what `info`, `image ls` and `image inspect NAME` print
#   $FAKE/list                                 what `image inspect` of several IDs prints
#   $FAKE/status.VERB  $FAKE/stderr.VERB       how a verb ends (0), and what it says on stderr (nothing)
#   $FAKE/loaded                               what `load` was given
printf '%s\n' "$*" >>"$FAKE/calls"
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
    name=$(printf '%s' "$5" | tr '/:' '__')
    if [ -e "$FAKE/show.$name" ]; then cat "$FAKE/show.$name"; else cat "$FAKE/list"; fi ;;
  load) cat >"$FAKE/loaded" ;;
esac
[ ! -e "$FAKE/stderr.$verb" ] || cat "$FAKE/stderr.$verb" >&2
[ ! -e "$FAKE/status.$verb" ] || exit "$(cat "$FAKE/status.$verb")"
