# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; the other parts call what is here
# The rest of what patches take: it goes with the program, where there is something to patch.

# is_patch METHOD: whether an archive may come as a recipe, in that compression.
is_patch() {
  case $1 in patch-?*) ;; *) return 1 ;; esac
  case " $patches " in *" ${1#patch-} "*) ;; *) return 1 ;; esac
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
  unpack 'exec(both[1])' "$1" $folders
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
