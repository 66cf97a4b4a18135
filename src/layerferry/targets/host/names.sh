# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables, and lists of words are split
# The verbs, and the names: an image gets those that the client says, and the throw-away ones go.

# obey: does what $verb says, at its time; in a dry run nothing that changes anything.
obey() {
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
}

# is_name WORD: of the characters of a reference; it leads nowhere else as a part of a URL, and is no option.
is_name() {
  case $1 in -* | ..* | */..* | *../* | *//* | *[!][A-Za-z0-9._:/-]*) return 1 ;; ?*:?*) [ ${#1} -le 500 ] ;; *) return 1 ;; esac
}

# is_ours WORD: a throw-away name.
is_ours() {
  case $1 in
    localhost/layerferry:*[!0-9a-f-]*) return 1 ;;
    localhost/layerferry:[0-9a-f]?*) [ ${#1} -lt 150 ] ;;
    *) return 1 ;;
  esac
}

# blame KIND TEXT: fails, with KIND where the engine still answers. It tells the last name that was given.
blame() {
  told=$("${way}_info" 2>/dev/null)
  answers || set -- stopped "$2"
  fail "$1" "${given:+after ${given##* }: }$2"
}

# give IMAGE NAME: one that we have told to be here, or have loaded.
give() {
  is_digest "$1" || is_ours "$1" || refuse tag "$1"
  is_name "$2" || refuse tag "$2"
  case " $offered $incoming " in *" $1 "*) ;; *) fail tag "$1 is not there" ;; esac
  put_name "$1" "$2"
  given="$given $1 $2"
}

# put_name IMAGE NAME: what fails is tried once more. Of sessions that give the same name at once, docker's containerd store
# fails some with "AlreadyExists" (seen on 28.5).
put_name() { text=$(set_name "$@" 2>&1) || text=$(set_name "$@" 2>&1) || blame tag "$text"; }

set_name() { name_it "$1" "$2" && pin_it "$2"; }

# pin_it NAME: Kubernetes' garbage collector is to leave it alone. It goes by names (containerd, pkg/cri/labels).
pin_it() { [ -z "$pin" ] || $cli images label "$1" io.cri-containerd.pinned=pinned; }

# name_it IMAGE NAME: gives it that name, unless it was seen to have it; `confirm` sees what has become of that.
name_it() {
  seen=$2
  [ "$engine" != docker ] || { seen=${seen#docker.io/} seen=${seen#library/}; }
  case "
$ids
" in *"
$1 $seen
"*) ;; *) "${way}_tag" "$1" "$2" ;; esac
}

# finish: what is told as done was seen last. Somebody else may have moved a name since we listed them.
finish() {
  # A load has done it.
  [ "$names" ] || sweep
  ids=''
  confirm $given || {
    set -- $given
    while [ $# -gt 0 ]; do put_name "$1" "$2"; shift 2; done
    set -- $given
    moved=''
    while [ $# -gt 0 ]; do confirm "$1" "$2" || moved="$moved $2=$("${way}_show" "$2" | cut -c 1-71)"; shift 2; done
    [ -z "$moved" ] || blame verify "moved$moved"
  }
  # shellcheck disable=SC2119
  drop
  say 'done'
}

# drop [all]: the throw-away names go; all: and what else has come of their load.
# shellcheck disable=SC2120 # other parts give it
drop() {
  for name in $incoming; do "${way}_remove" "$name" ${1+"$1"} >/dev/null 2>&1; done
  incoming=''
}

# lives MAKER: whether that session does, which was here.
lives() {
  made=${1#*-}
  started "${1%%-*}" && [ $since = "${made%%-*}" ]
}

# sweep: what has arrived for dead sessions goes when it is too old (resuming.sh), and throw-away names of dead sessions go:
# those of this user's sessions here at once, others' when they are a day older than ours. Sets $left to their number. Where
# nothing is loaded, those are looked at that are known anyway: an image that is here may be here because a dead session has
# loaded it.
sweep() {
  [ ! -d "$arrivals" ] || find "$arrivals" -depth -mtime +1 \( -type f -exec rm -f {} + -o -type d -exec rmdir {} + \)
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
