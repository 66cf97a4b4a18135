# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; the other parts call what is here
# What follows a push: files are copied, and a command runs as the login shell runs it. It goes along where a push asks for it.
staged=''
newline='
'

# in_place VERB STAGE...: whether it is the verb's time.
in_place() {
  one=$1
  shift
  case " $* " in *" $stage "*) ;; *) refuse "$one" 'has no place here' ;; esac
}

# late_was NAME: which image a name stands for, if it stands for one.
late_was() {
  in_place was ask load tag
  is_name "$1" || refuse was "$1"
  shown=$("${way}_show" "$1" 2>/dev/null)
  say was "$1" ${shown%%[ "$newline"]*}
}

# lose TEXT: a file is not copied.
lose() { fail copy "$path: $*"; }

# late_copy MODE DIGEST HEX: a file, whose path and content come in frames, is written beside where it is to be.
late_copy() {
  in_place copy 'done'
  case $1 in 0[0-7][0-7][0-7]) ;; *) refuse copy "$1" ;; esac
  path=$(frames; echo /) path=${path%/}
  case $path in /*) ;; *) path=${HOME-}/$path ;; esac
  beside=${path%/*}
  [ -d "$beside/" ] || lose 'its folder is not there'
  [ ! -h "$path" ] || lose 'it is a link there: name what it leads to'
  [ ! -e "$path" ] || [ -f "$path" ] || lose 'it is no file there'
  beside=$beside/.layerferry-$3${maker:+-}$maker
  clear_away
  trap 'code=$?; unstage; cleanup $code' EXIT
  trap 'trap - EXIT; unstage; cleanup 129; exit 129' HUP INT TERM PIPE
  staged="$staged$beside
$path
"
  text=$( (umask 077; set -C; frames >"$beside") 2>&1) || lose "${text:-it cannot be written}"
  [ "sha256:$(hashed <"$beside")" = "$2" ] || lose 'it could not be written whole'
  text=$(chmod "$1" "$beside" 2>&1) || lose "$text"
}

hashed() { { sha256sum || shasum -a 256 || openssl dgst -sha256 -r; } 2>/dev/null | cut -c 1-64; }

# clear_away: what killed sessions have left beside.
clear_away() {
  set +f
  for old in "${path%/*}"/.layerferry-*; do
    made=${old##*/.layerferry-} made=${made#*-}
    case ${maker:+$made} in *-*-"${maker#*-*-}") lives "$made" || rm -f "$old" ;; esac
  done
  set -f
}

unstage() {
  while read -r beside && read -r path; do
    [ -z "$beside" ] || rm -f "$beside"
  done <<STAGED
$staged
STAGED
}

# late_place: all files that were written beside get their names.
late_place() {
  in_place place 'done'
  while IFS= read -r beside && IFS= read -r path; do
    [ ! -d "$path" ] || lose 'it is a folder there'
    text=$(mv -f "$beside" "$path" 2>&1) || lose "$text"
  done <<STAGED
$staged
STAGED
  staged=''
  say end
}

# late_then KIND TOKEN [NAME IMAGE PREVIOUS]...: the command, or the script, comes in frames.
late_then() {
  in_place 'then' 'done'
  kind=$1 token=$2 image='' number='' previous=''
  shift 2
  while [ $# -ge 3 ]; do
    image="$image$newline$1" number="$number$newline$2" previous="$previous$newline${3#-}"
    shift 3
  done
  command=$(frames; echo /) command=${command%/}
  { (launch) 2>&1; printf '\n%s %s\n' "$token" $?; } 2>/dev/null | relay || fail internal 'the command was lost'
}

# launch: becomes the command, in a session of its own.
launch() {
  # So ksh makes it a process.
  # shellcheck disable=SC3045
  ulimit -S -t "$(ulimit -S -t)"
  who=$(exec sh -c 'echo $PPID')
  guard >/dev/null 2>&1 4>&- &
  if has setsid; then
    set -- "$(command -v setsid)"
  elif has perl; then
    set -- "$(command -v perl)" -e 'use POSIX;POSIX::setsid();exec @ARGV' --
  fi
  exec 3>&- 4>&- 5<&- 8<&- </dev/null
  unset LC_ALL DOCKER_HOST XDG_RUNTIME_DIR SUDO_ASKPASS
  eval "$login"
  export LAYERFERRY_IMAGE="${image#?}" LAYERFERRY_IMAGE_ID="${number#?}" LAYERFERRY_PREVIOUS_ID="${previous#?}"
  cd || cd /
  [ "$kind" = file ] || exec "$@" "${SHELL:-sh}" -c "$command"
  tool=sh word=''
  case $command in '#!'*) read -r tool word <<LINE ;; esac
${command#??}
LINE
  exec "$@" "$tool" ${word:+"$word"} /dev/fd/9 9<<SCRIPT
$command
SCRIPT
}

# guard: ends the command with all that it has started, where the client says so (`stop`), or is gone.
guard() {
  me=$(exec sh -c 'echo $PPID')
  how=HUP
  trap 'end_it' TERM
  while mark wait "$me"; read -r line <&5 && [ "$line" != stop ]; do :; done
  [ "$line" != stop ] || how=TERM
  end_it
}

end_it() {
  trap '' TERM
  # What goes on after the command has ended is no business of ours.
  kill -0 "$who" || exit
  group=-$who
  kill -0 "$group" || group=$who
  kill -$how "$group"
  for one in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$group" || exit
    sleep 1
  done
  kill -KILL "$group"
  exit
}

# relay: what the command says goes to the client, line by line as it comes, up to the line with the token, which tells how
# it ended. A line of more than 16 KiB comes in parts.
relay() {
  held=''
  while piece=$(dd bs=16384 count=1 2>/dev/null; echo /); [ "$piece" != / ]; do
    held=$held${piece%/}
    case $held in
      *"$newline"*) whole=${held%"$newline"*} held=${held##*"$newline"} ;;
      *) [ ${#held} -ge 16384 ] || continue; whole=$held held='' ;;
    esac
    case $whole in
      *"$token "*)
        piece=${whole%%"$token "*} whole=${whole#*"$token "}
        [ -z "$piece" ] || show "${piece%"$newline"}"
        say ran "${whole%%"$newline"*}"
        return ;;
    esac
    show "$whole"
  done
  return 1
}

show() { say "$1" | sed 's/^/output /'; }
