#!/bin/sh
# A ctr that plays answers: what it is asked is written to $FAKE/ctr-calls, what it says stands in $FAKE.
#
#   $FAKE/spaces  $FAKE/content  $FAKE/blob.DIGEST   what `namespaces ls`, `content ls` and `content get DIGEST` print
#   $FAKE/names                                      lines "NAME TYPE DIGEST": what `images ls` and `check` choose from
#   $FAKE/loaded                                     what `images import` was given; it adds $FAKE/new to the names
printf '%s\n' "$*" >>"$FAKE/ctr-calls"
while :; do case $1 in -n | -a | --connect-timeout) shift 2 ;; *) break ;; esac; done
verb="$1 $2"
case $verb in
  "version ") printf 'Client:\n  Version:  9\n\nServer:\n  Version:  %s\n' "$(cat "$FAKE/version")" ;;
  "namespaces ls") cat "$FAKE/spaces" ;;
  "content ls") cat "$FAKE/content" ;;
  "content get") cat "$FAKE/blob.$3" ;;
  "images tag") digest=$(awk -v name="$4" '$1 == name { print $3 }' "$FAKE/names")
    grep -v "^$5 " "$FAKE/names" >"$FAKE/rest"; mv "$FAKE/rest" "$FAKE/names"
    echo "$5 type $digest complete" >>"$FAKE/names" ;;
  "images import") cat >"$FAKE/loaded"; cat "$FAKE/new" >>"$FAKE/names" ;;
  "images ls" | "images check")
    shift 2
    case $1 in -q) cut -d ' ' -f 1 "$FAKE/names"; exit ;; esac
    echo "REF TYPE DIGEST STATUS"
    while read -r name type digest status; do
      for filter; do
        case $filter in "name==$name" | "target.digest==$digest") echo "$name $type $digest $status (3/3) 1 KiB true" ;; esac
      done
    done <"$FAKE/names" ;;
esac
