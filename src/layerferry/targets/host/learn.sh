# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; names.sh calls what is here
# What docker's containerd store does not tell of its blobs, its daemon tells a registry of the client's.
folder='' learning=''

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
