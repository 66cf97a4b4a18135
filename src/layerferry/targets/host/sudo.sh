# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; find.sh calls what is here
# Where sudo asks for a password: the client has one. It goes along for that alone, and is told sudo once before it counts.
unlock=unlock

# unlock: sets $root to words for which sudo has the password. That comes in frames, into a file in memory that has no name
# and is our user's alone, descriptor 8. sudo has no variable for it, and no pipe: its askpass program is `cat`, and its
# prompt, which that gets as its argument, the way to this file.
unlock() {
  case $why in *password*required* | *authentication*required*) ;; *) return 1 ;; esac
  unlock=false password=/proc/$self/fd/8
  for SUDO_ASKPASS in /bin/cat /usr/bin/cat /run/current-system/sw/bin/cat ''; do [ ! -x "$SUDO_ASKPASS" ] || break; done
  file=$(umask 077; mktemp /dev/shm/layerferry.XXXXXX || mktemp "$runtime/layerferry.XXXXXX") 2>/dev/null
  [ -z "$file" ] || { exec 8<>"$file"; rm -f "$file"; }
  [ "$SUDO_ASKPASS" ] && [ -r "$password" ] || {
    trouble="$trouble there is no memory here to keep a password in;"
    return 1
  }
  say sudo
  frames >&8
  mark ask
  # Of a file with one line sudo can read it once: the second of its three questions gets no answer.
  # shellcheck disable=SC2024 # we may read it, and sudo is to
  text=$(sudo -S -p '' -v <"$password" 2>&1) || case $text in
    *incorrect* | *'ry again'*) fail engine "sudo refused the password" ;;
    *) fail engine "sudo -v: $(say "$text" | tail -n 1)" ;;
  esac
  export SUDO_ASKPASS
  root="sudo -A -p $password"
}
