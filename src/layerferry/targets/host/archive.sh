# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $full is a word or none
# The archive: its frames, its load, and whether the engine has made of it what was sent.

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

copy() {
  dd "$@" <&5 2>/dev/null &
  mark wait "$me $!"
  wait $!
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

# started PID: sets $since to when a process was started, in ticks since the machine was.
started() {
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
  set -- ${stat##*\) }
  since=${20}
}

# find_maker: sets $maker to what tells this session from every other: its process, and when that was started; and of where:
# since the machine was, in which namespace of processes, by whom. Without a /proc it is empty.
find_maker() {
  maker=''
  started $self && read -r boot </proc/sys/kernel/random/boot_id && space=$(readlink /proc/self/ns/pid) || return 0
  while read -r key uid _ && [ $key != Uid: ]; do :; done </proc/$self/status
  space=${space#*\[} maker=$self-$since-${boot%%-*}-${space%]}-$uid
} 2>/dev/null

# lives MAKER: whether that session does, which was here.
lives() {
  made=${1#*-}
  started "${1%%-*}" && [ $since = "${made%%-*}" ]
}

# sweep: what has arrived for dead sessions goes when it is too old (resuming.sh), and throw-away names of dead sessions go: those of this user's sessions here at once, others' when they are a day older
# than ours. Sets $left to their number. Where nothing is loaded, those are looked at that are known anyway: an image that
# is here may be here because a dead session has loaded it.
sweep() {
  old=${XDG_CACHE_HOME:-${HOME-}/.cache}/layerferry/arrived
  [ ! -d "$old" ] || find "$old" -type f -mtime +1 -exec rm -f {} +
  before=$ids left='' time=${one_name##*:}
  [ "$listed" ] || [ -z "$names" ] || before=$("${way}_list" ours)
  for name in $before; do
    is_ours "$name" || continue
    old=${name##*:}
    case $old in ????????-*) ;; *) continue ;; esac
    made=${old#*-*-}
    case ${maker:+$made} in
      *-*-"${maker#*-*-}") lives "$made" || left="$left $name" ;;
      *) [ -z "$time" ] || [ $((0x${time%%-*} - 0x${old%%-*})) -lt 86400 ] || left="$left $name" ;;
    esac
  done
  [ "$left" ] || return 0
  incoming=$left seen=$before before=''
  set -- $left
  drop all
  left=$# before=$seen
} 2>/dev/null

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
