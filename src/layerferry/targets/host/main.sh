# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and lists of words are split
# The target's part of the conversation, in POSIX sh, on a host that has an engine and nothing else of ours. It arrives
# through stdin, without these comments; nothing of it is written to the host's disk. This is its last part, which starts it.

# shellcheck disable=SC2329 # a trap calls it
cleanup() {
  code=${1-$?}
  trap '' HUP INT TERM PIPE
  drop all
  forget
  [ -z "$arrived" ] || settle
  mark end "$code"
  [ -z "$ticker" ] || kill "$ticker"
} 2>/dev/null

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

copy() {
  dd "$@" <&5 2>/dev/null &
  mark wait "$me $!"
  wait $!
}

# part BYTES [gzip]: more of this script comes.
part() {
  case $1 in '' | *[!0-9]* | ??????*) refuse part "$1" ;; esac
  me=$self
  text=$(copy bs=1 count="$1" | if [ "${2-}" ]; then gzip -dc; else cat; fi) && eval "$text" || exit 1
  mark wait "$self"
}

# converse: obeys one verb after the other.
converse() {
  while mark wait "$self"; read -r verb one two; do
    mark work
    case $verb in part) part "$one" "$two" ;; -) ;; *) obey ;; esac
  done
}

# The watch. Nothing in POSIX waits for input or an engine, and for no longer than that; so a second process hears of what
# the first does, and each 10 s of a tick. While the first works, it tells the client that we live; where the first has
# waited for 300 s, the client is gone, and the network has not told us: it ends whoever waits.

# mark main PID|ask|wait PIDS|work|end CODE: tells the watch.
mark() { say "$@" >&3; }

# tick: a process of its own. A subshell would hold what its shell has put aside (dash: stdin and stdout above 10), so that
# the session would not end before it; and a signal may be lost in it before it has forgotten the traps of its parent.
tick() {
  # shellcheck disable=SC2016
  exec sh -c 'trap "kill \$!; exit" TERM; while :; do sleep 10 >/dev/null & wait $!; echo tick || exit; done' \
    </dev/null >&3 2>/dev/null 3>&- 4>&- 5<&-
}

watch() {
  quiet=0 state=ask main='' waiting=''
  while read -r word rest; do
    case $word in
      main) main=$rest ;;
      tick)
        kill -0 "$main" 2>/dev/null || break
        case $state in
          work) say alive; continue ;;
          ask) continue ;;
        esac
        quiet=$((quiet + 1))
        [ $quiet -ge 30 ] || continue
        # Once: then the first has work, to tidy up, and in a while another process may have the number.
        state=work
        kill $waiting 2>/dev/null ;;
      end) return "$rest" ;;
      *) quiet=0 state=$word waiting=$rest ;;
    esac
  done
  # It was killed, and what it has started would go on.
  kill $waiting 2>/dev/null
  fail internal 'the script was killed'
}

main() {
  incoming='' names='' header='' wanted_engine='' ctr='' cli=docker way=cli rootless=''
  offered='' given='' ticker='' stage=ask one_name='' program='' arrived='' kind='' asks='' line='' ended=''
  trap cleanup EXIT
  # mksh leaves out the trap of an EXIT that comes out of a trap.
  trap 'trap - EXIT; cleanup 129; exit 129' HUP INT TERM PIPE
  # shellcheck disable=SC2016
  self=$(exec sh -c 'echo $PPID')
  mark main "$self"
  find_maker
  # On a line of its own, whatever a login shell has printed.
  printf '\nlayerferry 1 sh\n'
  tick &
  ticker=$!
  inventory
  converse
}

{ exec 4>&1 5<&0; { exec 3>&1 >&4; main; } | watch; exit; }
# A shell that reads us from its stdin has read on: what stands after us is the client's, and no script.
# shellcheck disable=SC2317
exit 0
