# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; the other parts call what is here
# What has arrived of large layers, and what is kept of it: this goes with the verb that needs it.
#
# A piece is a file KEY.CONTENT.DIGEST.SESSION in a folder of this user's alone: the beginning of a layer's diff ID, what the
# client knows the piece by, the beginning of the file's sha256, and who has written it. What this session builds on has a
# second name in c.SESSION, so that no other session takes it away.

is_piece() {
  case $1 in '' | .* | *[!0-9a-f.-]*) return 1 ;; esac
  [ ${#1} -lt 240 ]
}

# open_spool: makes the folder, unless there is a link or somebody else's, and goes there.
open_spool() {
  base=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}} made=''
  spool=$base/layerferry/arrived uid=$(id -u)
  case $base in /*) ;; *) return 1 ;; esac
  [ ! -L "$base/layerferry" ] && [ ! -L "$spool" ] || return
  [ -d "$base" ] || made=$base
  (umask 077; mkdir -p "$spool") && cd "$spool" || return
  # shellcheck disable=SC2012,SC2046
  set -- $(ls -ldn .)
  case $1,$3 in drwx------*,$uid) arrived=yes ;; *) cd /; return 1 ;; esac
} 2>/dev/null

# is_alive SESSION: as far as that can be seen from here.
is_alive() { lives "$1" || kill -0 "${1%%-*}"; } 2>/dev/null

# is_dead SESSION: one of another machine, which shares this home, is not known to be.
is_dead() {
  case $1 in *-*-"${maker#*-*-}") ! is_alive "$1" ;; *) [ -z "$maker" ] && ! is_alive "$1" ;; esac
}

# clear_spool: what is too old goes, and the oldest of what is too much; and what dead sessions have built on.
clear_spool() {
  find . -type f -mtime +1 -exec rm -f {} +
  # shellcheck disable=SC2012
  ls -lnt | awk 'NR > 1 && $1 ~ /^-/ { all += $5; if (all > 17179869184) print $9 }' | xargs rm -f --
  set +f
  for one in c.*; do ! is_dead "${one#c.}" || rm -rf "$one"; done
  set -f
} 2>/dev/null

# resume BYTES DIFFID...: what is here of these layers, and for how many bytes there is room: not for more than half of what
# is free, since the engine may keep its layers on the same disk.
resume() {
  need=$1 keys='' room=0
  case $need in '' | *[!0-9]* | ???????????????????*) refuse resume "$need" ;; esac
  shift
  for one in "$@"; do
    is_digest "$one" || refuse resume "$one"
    keys="$keys $(printf %.16s "${one#sha256:}")"
  done
  session=${maker:-$self}
  for hash in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' ''; do ! has ${hash%% *} || break; done
  if [ "$hash" ] && open_spool; then
    clear_spool
    mkdir "c.$session" 2>/dev/null && claim
    room=$(df -Pk . 2>/dev/null | awk -v need="$need" 'NR == 2 {
      left = $4 * 1024 - need
      if (left > 17179869184) left = 17179869184
      printf "%.0f", left < need ? 0 : left
    }')
  fi
  say "room ${room:-0}"
  say end
}

# claim: tells the pieces of the layers that are what they were; the others go.
claim() {
  set +f
  for key in $keys; do ln "$key".* "c.$session"; done 2>/dev/null
  set -f
  (cd "c.$session" && set +f && $hash ./* 2>/dev/null) | while read -r digest name; do
    name=${name##*/}
    is_piece "$name" || continue
    wanted=${name%.*} wanted=${wanted##*.}
    case $digest,$wanted in
      "$wanted"*,????????????????????????????????) say "kept $name"; continue ;;
    esac
    rm -f "c.$session/$name"
    ! is_dead "${name##*.}" || rm -f "$name"
  done
}

# frames: as before; "LENGTH NAME" is a piece to keep, "+ NAME" one that is here. What has come is over, unless it broke off.
# An archive goes through python3, where there is one: a dd and a tee for each piece cost more than all else that we do.
frames() {
  # shellcheck disable=SC2016
  me=$(exec sh -c 'echo $PPID')
  over='' code=127
  case $stage in
    load)
      ! has python3 || {
        python3 -I -S -c "import base64,zlib;exec(zlib.decompress(base64.b64decode('$keeper')))" "$me" "$session" "$room" <&5 8>&3
        code=$?
      } ;;
  esac
  case $code in
    0) over=yes ;;
    1 | 2 | 126 | 127) pass ;;
  esac
  mark work
  case $over,$arrived,$stage in yes,yes,load) : >"c.$session/over" ;; esac
} 2>/dev/null

# pass: the frames, where python3 has not read any.
pass() {
  while mark wait "$me"; read -r length name; do
    case $length in
      -) continue ;;
      +)
        is_piece "$name" && mark work && cat "c.$session/$name" && continue
        over=yes; break ;;
      0 | '' | *[!0-9]* | ?????????*) over=yes; break ;;
    esac
    if [ -z "$name" ]; then frame "$length"; else keep "$length" "$name"; fi || { over=yes; break; }
  done
}

# keep LENGTH NAME: a frame, of which a copy is left here. Where the disk is full, no further one is.
keep() {
  is_piece "$2" || return
  if [ "$room" = 0 ]; then frame "$1"; return; fi
  frame "$1" | tee "$2.$session"
  code=$?
  [ $code != 0 ] || return 0
  rm -f "$2.$session"
  room=0
  [ $code -lt 128 ]
}

# settle: what is kept goes when the image has its names, or when the engine does not want what has come in full.
settle() {
  gone=''
  case $stage$kind in 'done') gone=yes ;; *load | *verify) [ ! -e "c.$session/over" ] || gone=yes ;; esac
  set +f
  [ -z "$gone" ] || for key in $keys; do rm -f "$key".*; done
  rm -rf "c.$session"
  cd /
  rmdir "$spool" "${spool%/*}" ${made:+"$made"}
} 2>/dev/null

# gc TIME: what dead sessions have left goes, names that are a day older than TIME among it.
gc() {
  case $1 in '' | *[!0-9a-f]* | ?????????*) refuse gc "$1" ;; esac
  names=all one_name=localhost/layerferry:$1- keys='' session=${maker:-$self} left=''
  sweep
  names=''
  say "swept ${left:-0}"
  freed=0
  if open_spool; then
    clear_spool
    set +f
    for one in *.*.*.*; do
      [ ! -f "$one" ] || is_alive "${one##*.}" || { freed=$((freed + $(wc -c <"$one"))); rm -f "$one"; }
    done 2>/dev/null
    set -f
  fi
  say "freed $freed"
  say end
}
