# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and lists of words are split
# The names: an image gets those that the client says, and the throw-away ones go.

# give IMAGE NAME: one that we have told to be here, or have loaded.
give() {
  is_digest "$1" || is_ours "$1" || refuse tag "$1"
  is_name "$2" || refuse tag "$2"
  case " $offered $incoming " in *" $1 "*) ;; *) fail tag "$1 is not there" ;; esac
  put_name "$1" "$2"
  given="$given $1 $2"
}

put_name() { text=$(name_it "$1" "$2" 2>&1 && pin_it "$2" 2>&1) || blame tag "$text"; }

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

# confirm IMAGE NAME...: whether each name is its image now, as the engine shows both.
confirm() {
  [ $# -gt 0 ] || return 0
  "${way}_show" "$@" | awk -v all=$# 'NR % 2 { id = $1; next } $1 == id { same += 2 } END { exit same != all }'
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

# learn IMAGE NAME TOKEN BASIC: the daemon pushes IMAGE to a registry that claims to hold everything, and so tells its
# blobs. The credentials are in no command line.
learn() {
  case $3$4 in '' | *[!A-Za-z0-9+/=_-]*) refuse learn ;; esac
  { is_digest "$1" && is_name "$2"; } || refuse learn "$1 $2"
  case " $offered  $2" in *" $1 "*\ 127.0.0.1:[1-9]*/?*:learn) ;; *) refuse learn "$1 $2" ;; esac
  learning=$2 verdict=no
  "${way}_tag" "$1" "$2" >/dev/null 2>&1 && "${way}_push" "$2" "$3" "$4" >/dev/null 2>&1 && verdict=yes
  say "learned $verdict"
  forget
}

# forget: the name that was pushed, and the folder with the credentials.
forget() {
  [ -z "$learning" ] || "${way}_remove" "$learning" >/dev/null 2>&1
  [ -z "$folder" ] || rm -rf "$folder"
  folder='' learning=''
}
