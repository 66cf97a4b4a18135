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

# expect NAME DIFFIDS: what the archive has.
expect() {
  is_ours "$1" || refuse expect "$1"
  for word in $2; do is_digest "$word" || refuse expect "$word"; done
  one_name=$1 names="$names $1" header="$header$1 $2
"
}

# converse: obeys one verb after the other, each at its time; in a dry run none that changes anything.
converse() {
  while mark wait "$self"; read -r verb one two; do
    mark work
    case $verb:$stage in
      learn:ask | learn:dry | probe:program | files:program | match:program | resume:ask | resume:program | gc:ask) ;;
      program:ask | expect:ask | expect:program | expect:expect | load:expect | tag:ask | tag:load | tag:tag | done:ask | done:load | done:tag) stage=$verb ;;
      learn:* | program:* | files:* | match:* | probe:* | resume:* | gc:* | expect:* | load:* | tag:* | done:*) refuse "$verb" 'has no place here' ;;
    esac
    case $verb in
      learn) learn "$one" $two ;;
      program) prepare "$one" ;;
      files | match | probe) [ "$program" ] || refuse "$verb" ;;
    esac
    case $verb in
      files) sign "$one" $two ;;
      match) compare "$one" ;;
      probe) probe_line ;;
      resume | gc) text=$(frames) && eval "$text" && $verb "$one" $two ;;
      expect) expect "$one" "$two" ;;
      load)
        case " $accept " in *" ${one:--} "*) ;; *) { [ "$program" ] && is_patch "$one"; } || refuse load "$one" ;; esac
        receive "$one" ;;
      tag) give "$one" "$two" ;;
      'done') finish ;;
      resolve | keep | images | remove | was | copy | place | 'then') "late_$verb" "$one" $two ;;
    esac
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
  incoming='' learning='' names='' header='' wanted_engine='' ctr='' cli=docker way=cli rootless=''
  offered='' given='' folder='' ticker='' stage=ask one_name='' program='' arrived='' kind=''
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
