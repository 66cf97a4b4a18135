# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; the other parts call what is here
# The rest of what patches take: it goes with the program, where there is something to patch.

# is_patch METHOD: whether an archive may come as a recipe, in that compression.
is_patch() {
  case $1 in patch-?*) ;; *) return 1 ;; esac
  case " $patches " in *" ${1#patch-} "*) ;; *) return 1 ;; esac
}

# find_reader: sets $reader to the words before python3 with which it reads the folders of layers, and tells that with a
# line; where it may not, docker can export an image ($exported), which takes longer, and more room.
find_reader() {
  exported='' container=''
  case $store:$engine:$driver in
    blob:nerdctl:*) return 1 ;;
    blob:*) [ "$ctr" ] ;;
    *:overlay* | *:fuse-overlayfs) ;;
    *) false ;;
  esac && may_read && say 'data 00000' && return
  [ "$engine" = docker ] && exported=yes reader='' && say 'data 00001'
}

# Rootless docker's files are its user's; those of a rootless podman are in its own namespace of users.
may_read() {
  case "$cli $(id -u) $(id -Gn) " in
    'sudo '*) reader=$root ;;
    "$cli 0 "*) ;;
    podman*) reader='podman unshare' ;;
    *' sudo '* | *' wheel '* | *' admin '*) [ "$rootless" ] || { $root true 2>/dev/null && reader=$root; } ;;
    *) [ "$rootless" ] ;;
  esac
}

# sign NEW IMAGE...: what files images have, but for the layers that they share with the new one from the bottom up.
sign() {
  new=$1 folders=''
  is_digest "$1" || refuse files "$1"
  shift
  for one in "$@"; do
    is_digest "$one" || is_name "$one" || refuse files "$one"
    shown=$(say "$one" | "${way}_layers")
    [ "$shown" ] || { one=$(newest "$one") && shown=$(say "$one" | "${way}_layers"); }
    [ "$shown" ] || continue
    if [ "$exported" ]; then
      export_image "$one" 2>/dev/null && break
    else
      folders="$folders$(layer_folders "$one" 2>/dev/null)
"
    fi
  done
  played sign 2>/dev/null
  say end
}

# newest NAME: the newest image of its repository.
newest() {
  repository=${1%:*}
  case $1:$way in
    sha256:*) false ;;
    *:ctr) $cli images ls | awk -v name="$repository:" 'index($1, name) == 1 { print $1; exit }' ;;
    *)
      [ "$engine" != docker ] || { repository=${repository#docker.io/} repository=${repository#library/}; }
      $cli image ls --no-trunc --filter "reference=$repository" --format '{{.ID}}' 2>/dev/null | head -n 1 ;;
  esac | grep .
}

# layer_folders IMAGE: of its layers that $new has not, the uppermost first.
layer_folders() {
  wanted=$(say "$asks" | sed -n "s/^$new //p")
  set -- "$1" ${shown#* }
  all="${shown#* }"
  for layer in $wanted; do
    [ "$layer" = "${2-}" ] || break
    shift 2
    set -- "${shown%% *}" "$@"
  done
  if [ $store = blob ]; then snapshot_folders $all; else "${way}_folders" "$1"; fi | tr ':' '\n' | head -n $(($# - 1))
}

# snapshot_folders DIFFID...: the folders of the snapshots of a chain of layers, the uppermost first. containerd tells them
# of a view alone, which goes at once, or, where we are killed, with its next garbage collection: no lease and no label
# keeps it (containerd 1.6, 1.7, 2.1).
snapshot_folders() {
  chain=$(python3 -I -c 'import hashlib,sys
chain=sys.argv[1]
for one in sys.argv[2:]:chain="sha256:"+hashlib.sha256((chain+" "+one).encode()).hexdigest()
print(chain)' "$@")
  compression=none
  find_snapshotter
  by=${options##* }
  by=${by:-overlayfs}
  $ctr snapshots --snapshotter $by view -t / "layerferry-${maker:-$self}" "$chain" |
    sed -n 's/.*lowerdir=\([^,]*\).*/\1/p; s/^mount -t bind \([^ ]*\) .*/\1/p'
  $ctr snapshots --snapshotter $by rm "layerferry-${maker:-$self}" >/dev/null
}

# export_image IMAGE: the files of an image as a tar in a file without a name, descriptor 7, out of a container that is never started.
# It may take half of what is free.
export_image() {
  sweep_containers
  size=$($cli image inspect --format '{{.Size}}' "$1") scratch=$(umask 077; mktemp -d /var/tmp/layerferry.XXXXXX || mktemp -d) || return
  room=$(df -Pk "$scratch" | awk 'NR == 2 { print $4 }')
  { [ $((size / 512)) -lt "${room:-0}" ] && : >"$scratch/tar" && exec 7<>"$scratch/tar"; } || { rm -rf "$scratch"; return 1; }
  rm -rf "$scratch"
  container=layerferry-${maker:-$self}
  $cli create --name "$container" "$1" x >/dev/null && $cli export "$container" >&7
  code=$?
  # What an export that failed has written is room for whole layers.
  [ $code = 0 ] || exec 7>&-
  forget
  return $code
}

# forget, from now on: the container. What is learned was forgotten before.
forget() {
  [ -z "$container" ] || $cli rm -fv "$container" >/dev/null 2>&1
  container=''
}

# sweep_containers: those of sessions that were killed.
sweep_containers() {
  for name in $($cli ps -a --filter name=layerferry- --format '{{.Names}}'); do
    case ${maker:+$name} in
      layerferry-*-*-"${maker#*-*-}") lives "${name#layerferry-}" || $cli rm -fv "$name" >/dev/null ;;
    esac
  done
}

# played MODE: runs the program on the folders, one a line, or on what was exported.
played() (
  mode=$1 IFS='
'
  set -- $folders
  IFS=' '
  if [ "$exported" ]; then unpack 'exec(both[1])' "$mode" - 7<&7; else unpack 'exec(both[1])' "$mode" "$@"; fi
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
