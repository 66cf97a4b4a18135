# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $full is a word or none
# The archive: its frames, its load, and whether the engine has made of it what was sent.

# find_dd: sets $full to how dd here reads whole blocks of a pipe, or so many bytes of it.
find_dd() {
  # Older BSDs', and so macOS's, dd knows no fullblock; it tells how much it has read.
  for full in iflag=fullblock,count_bytes iflag=fullblock ''; do ! : | dd bs=1 count=0 $full >/dev/null 2>&1 || break; done
  [ "$full" ] || case $(: | dd bs=1 count=0 2>&1) in *bytes*) full=told ;; esac
}
find_dd

# frames: copies the chunks "LENGTH\n" BYTES from stdin to stdout, up to a length of 0; "-" is a sign of life.
# dd reads just what it is told to; nothing else in POSIX leaves the rest of a pipe alone. It holds one block at a time:
# small ones let the network and the engine go on side by side.
frames() {
  # shellcheck disable=SC2016
  me=$(exec sh -c 'echo $PPID')
  while mark wait "$me"; read -r length; do
    case $length in -) continue ;; 0 | '' | *[!0-9]* | ?????????*) break ;; esac
    frame "$length" || break
  done
  mark work
}

# frame LENGTH: copies as many bytes.
frame() {
  case $full in
    *_bytes) copy bs=65536 count="$1" $full ;;
    told) take "$1" ;;
    '') copy bs=1 count="$1" ;;
    *)
      [ "$1" -lt 65536 ] || copy bs=65536 count=$(($1 / 65536)) $full || return
      [ $(($1 % 65536)) = 0 ] || copy bs=$(($1 % 65536)) count=1 $full ;;
  esac
}

# take LENGTH: as many bytes, in as few reads as the pipe gives them.
take() {
  left=$1
  while [ "$left" -gt 0 ]; do
    read=$(
      dd bs="$left" count=1 <&5 2>&1 >&6 &
      mark wait "$me $!"
      wait $!
    )
    read=${read##* out?}
    read=${read%% *}
    case $read in '' | 0 | *[!0-9]*) return 1 ;; esac
    left=$((left - read))
  done
} 6>&1

load() {
  case " $expand $compression" in
    *" patch-"*) frames | ${compression#patch-} -dcq | played expand | "${way}_load" ;;
    *" $compression "*) frames | $compression -dcq | "${way}_load" ;;
    *) frames | "${way}_load" ;;
  esac
}

# expect NAME DIFFIDS|of ID: what the archive has: an image with these layers, or with those of one that was asked for.
expect() {
  is_ours "$1" || refuse expect "$1"
  expected=$2
  case $2 in "of "*)
    is_digest "${2#of }" || refuse expect "$2"
    expected=$(say "$asks" | sed -n "s/^${2#of } //p")
    [ "$expected" ] || refuse expect "$2" ;;
  esac
  for word in $expected; do is_digest "$word" || refuse expect "$word"; done
  one_name=$1 names="$names $1" header="$header$1 $expected
"
}

# receive COMPRESSION: loads the archive under its throw-away names, and shows what the engine made of it.
receive() {
  compression=$1
  sweep
  [ -z "$left" ] || say "swept $left"
  incoming=$names
  [ "$way" != ctr ] || find_snapshotter
  text=$(load 2>&1 >/dev/null) || blame load "$text"
  for name in $incoming; do
    # What an engine warns of on stderr is no part of its answer (seen: podman 5 on cgroups v1).
    shown=$(say "$name" | "${way}_layers") && [ "$shown" ] || blame verify "the engine does not show $name"
    expected=$(printf '%s' "$header" | while read -r key layers; do [ "$key" = "$name" ] && say "$layers"; done)
    [ "${shown#* }" = "$expected" ] || [ "$shown" = "${shown#* }$expected" ] ||
      fail verify "the engine shows other layers than were sent"
    say "loaded $name ${shown%% *}"
  done
  say end
}
