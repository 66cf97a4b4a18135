# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and lists are split into words
# Patches of layers: the client's program, run by python3, tells what the files of older images are, and expands a recipe.

# find_patch: sets $patches to the compressions that a recipe may have; to none where there is no python3, or where it
# could not read the layers, which overlayfs has as folders.
find_patch() {
  patches=''
  case $store:$driver in chain:overlay* | layer:overlay*) ;; *) return 0 ;; esac
  { has python3 && [ "$(id -u)" = 0 ]; } || return 0
  for one in zstd gzip; do ! has $one || patches="$patches $one"; done
}

# is_patch METHOD: whether an archive may come as a recipe, in that compression.
is_patch() {
  [ "$program" ] || return
  case $1 in patch-?*) ;; *) return 1 ;; esac
  case " $patches " in *" ${1#patch-} "*) ;; *) return 1 ;; esac
}

# play MODE WORD...: runs the program.
play() {
  python3 -I -c 'import base64,sys,zlib;exec(zlib.decompress(base64.b64decode(sys.argv.pop(1))))' "$program" "$@"
}

# prepare PROGRAM: it comes as base64 of what zlib made of it.
prepare() {
  case $1 in '' | *[!A-Za-z0-9+/=]*) refuse program ;; esac
  program=$1
  say end
}

# sign NEW IMAGE...: what files images have, but for the layers that they share with the new one from the bottom up.
sign() {
  new=$1 folders=''
  is_digest "$1" || refuse files "$1"
  shift
  for one in "$@"; do
    is_digest "$one" || is_name "$one" || refuse files "$one"
    folders="$folders$(layer_folders "$one" 2>/dev/null)
"
  done
  played sign 2>/dev/null
  say end
}

# layer_folders IMAGE: of its layers that $new has not, the uppermost first.
layer_folders() {
  shown=$(say "$1" | "${way}_layers") && [ "$shown" ] || return
  wanted=$(say "$asks" | sed -n "s/^$new //p") below=0
  set -- "$1" ${shown#* }
  for layer in $wanted; do
    [ "$layer" = "${2-}" ] || break
    below=$((below + 1))
    shift 2
    set -- "${shown%% *}" "$@"
  done
  "${way}_folders" "$1" | tr ':' '\n' | head -n $(($# - 1))
}

# played MODE: runs the program on the folders, one a line.
played() (
  IFS='
'
  play "$1" $folders
)

# compare MODE: its parts of files whose paths come in frames.
compare() {
  case $1 in blocks | pieces) ;; *) refuse match "$1" ;; esac
  frames | played "$1" 2>/dev/null
  say end
}

# probe: takes what comes, so that the client learns how quick the line is.
probe_line() {
  frames >/dev/null
  say end
}
