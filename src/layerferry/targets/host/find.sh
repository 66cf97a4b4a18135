# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and words are made of them
# Which engine, where, and in which way it is talked to.
#
# There are four ways, $way: cli, api, ctr and nerdctl. Each has the same nine functions; $cli is the engine's command.
#
#   probe                    sets $told to what `info` says; and, where that is quicker at once, $ids and $listed to all
#                            that `list` says
#   info                     "VERSION OS/ARCH[/MACHINE] DRIVER ROOT STATUS", ROOT where it keeps images, as docker and podman
#                            tell it; no second word like that where the engine is not reached
#   list [ID... | ours]      lines "ID NAME", the newest first: all, or at least those of these, or at least throw-away ones
#   layers                   "ID DIFFID DIFFID..." of the images whose IDs or names stand on stdin, of those that it has
#   show IMAGE...            a line for each, which starts with its ID
#   load                     takes an archive from stdin
#   tag IMAGE NAME           gives it that name
#   remove NAME [all]        takes that name away; all: and what else has come of its load
#   push NAME TOKEN BASIC    pushes it; only where the store goes by blob
#
# info, list and load may be the last that their process does. What one says on stderr where it fails is told the user.

# reach WAY COMMAND...: whether an engine answers, and its images are those of whom the client wants.
reach() {
  way=$1 ids='' listed='' told=''
  shift
  cli=$*
  "${way}_probe"
  answers || return
  find_owner
  case $as:$owner in user:root) false ;; root:root | user:* | :*) ;; *) false ;; esac
}

# find_engine: docker's API is asked first, where nobody wants another engine, or another user's.
find_engine() {
  engine=docker
  case "$wanted_engine $space$as$pin" in ' ' | 'docker ') has docker && reach api docker && return ;; esac
  need engines find_others
  find_others
}

# find_owner: whose images they are.
find_owner() {
  owner=root
  case "$engine $told" in
    podman* | nerdctl* | *name=rootless*)
      case "$cli $(id -u)" in sudo* | *' 0') ;; *) owner=$(id -un 2>/dev/null || :) ;; esac ;;
  esac
}

# describe: what the engine that was found can do.
describe() {
  set -- $told
  version=$1 platform=$2 driver=$3 data=${4-} ctr=''
  case $platform in */arm) platform=$platform/$(uname -m) ;; esac
  # $sure: an image that it lists is whole. $since: the version since when its load takes zstd, and with it the layers of
  # $takes: docker 23 (seen: 20.10 refuses it, 26.1 takes it), podman 4, ctr 2.0, which is also the first to take gzip (seen:
  # 1.7 refuses both, 2.1 takes them). containerd 1.5 knows layers of zstd.
  store=chain sure=yes since=23 accept='none gzip' expand='' takes='tar gzip'
  case $engine$* in
    docker*io.containerd.snapshotter*) store=blob; need blobs find_containerd; find_containerd ;;
    docker*) ;;
    *) describe_other ;;
  esac
  # Who builds an engine himself may call it `dev`, or by a commit: it is new, then.
  number=${version#v}
  case $number in [0-9]*.*) number=${number%%[!0-9]*} ;; *) number=$since ;; esac
  if [ "$number" -ge $since ]; then
    accept="$accept zstd" takes='tar gzip zstd'
  else
    [ $way != ctr ] || { expand=gzip; has gzip || accept=none; }
    has zstd && accept="$accept zstd" expand="$expand zstd"
  fi
  find_patch
}

# find_patch: sets $patches to the compressions that a recipe may have, where there is a python3. Whether that may read the
# layers is seen when a client sends the program.
find_patch() {
  patches=''
  has python3 || return 0
  for one in zstd gzip; do ! has $one || patches="$patches $one"; done
}

greet() {
  say "engine $engine $version $driver"
  say "owner ${owner:-user}"
  say "store $store"
  say "platform $platform"
  say "accept $accept"
  say "layers $takes"
  [ -z "$patches" ] || say "patch$patches"
  say "capability alive idle login parts resume$more"
  [ -z "$maker" ] || say "maker $maker"
}

# tell_room: bytes that are free where the engine unpacks layers, for root too. Of other stores nobody tells where that is.
tell_room() {
  case $store$driver:$data in blob*) return ;; *overlay:/* | *overlay2:/* | *fuse-overlayfs:/* | *vfs:/*) ;; *) return ;; esac
  room=$(df -Pk "$data" 2>/dev/null | awk 'NR == 2 && $2 > $3 { printf "%.0f", ($2 - $3) * 1024 }')
  [ -z "$room" ] || say "free $room"
}
