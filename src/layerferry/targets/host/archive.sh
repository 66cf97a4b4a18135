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
    if [ "$full" = told ]; then
      take "$length" || break
    elif [ "$full" ] && [ $((length % 65536)) = 0 ]; then
      copy bs=65536 count=$((length / 65536)) $full || break
    elif [ "$full" ]; then
      copy bs="$length" count=1 $full || break
    else
      copy bs=1 count="$length" || break
    fi
  done
  mark work
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
  case " $expand " in
    *" $compression "*) frames | $compression -dcq | "${way}_load" ;;
    *) frames | "${way}_load" ;;
  esac
}

# sweep: throw-away names that are a day older than ours go. Their session died with its host or its engine.
sweep() {
  time=${one_name##*:}
  case $time in ????????-*) time=${time%%-*} ;; *) return ;; esac
  for name in $before; do
    is_ours "$name" || continue
    old=${name##*:}
    case $old in ????????-*) ;; *) continue ;; esac
    [ $((0x$time - 0x${old%%-*})) -lt 86400 ] || incoming="$incoming $name"
  done
  drop all
}

# receive COMPRESSION: loads the archive under its throw-away names, and shows what the engine made of it.
receive() {
  compression=$1 before=$ids
  [ "$listed" ] || before=$("${way}_list" ours 2>/dev/null)
  sweep 2>/dev/null
  incoming=$names
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
