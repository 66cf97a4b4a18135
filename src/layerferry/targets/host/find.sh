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

# find_owner: whose images they are.
find_owner() {
  owner=root
  case "$engine $told" in
    podman* | nerdctl* | *name=rootless*)
      case "$cli $(id -u)" in sudo* | *' 0') ;; *) owner=$(id -un 2>/dev/null || :) ;; esac ;;
  esac
}

# probe WAY COMMAND...: the same, and why not, in $trouble.
probe() {
  reach "$@" && return
  if answers; then why="its images are those of $owner"; else why=$("${way}_info" 2>&1 | tail -n 1); fi
  trouble="$trouble $cli: $why;"
  return 1
}

# The first that is installed is the one that people here use. Where it does not run, or refuses this user, that is no reason
# to put the image where nobody looks for it. Of a containerd that ctr does not reach, nerdctl may be the way.
find_engine() {
  trouble='' seen='' others='' runtime=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  [ "$wanted_engine" != - ] || wanted_engine=''
  [ "$space" != - ] || space=''
  case $space in -* | *[!A-Za-z0-9._-]*) refuse engine "$space" ;; esac
  [ "$as" != - ] || as=''
  case $as in '' | root | user) ;; *) refuse engine "$as" ;; esac
  case $pin in '' | pin) ;; *) refuse engine "$pin" ;; esac
  engines='docker podman k3s rke2 k0s microk8s ctr nerdctl'
  case " $engines " in *" ${wanted_engine:-docker} "*) engines=${wanted_engine:-$engines} ;; *) engines= ;; esac
  for engine in $engines; do
    has "$engine" || continue
    case $seen in '' | ' ctr') ;; *) others="$others $engine"; continue ;; esac
    seen="$seen $engine" by=cli words=$engine
    case $engine in
      docker)
        [ "$as" != root ] || export DOCKER_HOST=unix:///var/run/docker.sock
        reach api docker && return ;;
      k3s | k0s | microk8s) by=ctr words="$engine ctr" ;;
      rke2) by=ctr words='/var/lib/rancher/rke2/bin/ctr -a /run/k3s/containerd/containerd.sock' ;;
      ctr) by=ctr ;;
      nerdctl) by=nerdctl words="nerdctl${space:+ -n $space}"; export XDG_RUNTIME_DIR="$runtime" ;;
    esac
    probe $by $words && return
    [ "$engine" = docker ] && find_rootless && return
    # Where the user has a containerd of his own, root's is not meant.
    case $by$wanted_engine$as in ctr) ! [ -e "$runtime/containerd-rootless" ] || ! has nerdctl || continue ;; esac
    if [ "$as" != user ] && has sudo; then
      # sudo's own PATH may lack /usr/local/bin, where k3s is.
      case $engine in docker | podman | rke2) ;; *) words=$(command -v "$engine")${words#"$engine"} ;; esac
      { probe $by $root $words || { $unlock && probe $by $root $words; }; } && return
    fi
    # podman under docker's name.
    [ "$engine$wanted_engine" != docker ] || case $(docker --version 2>/dev/null) in
      podman* | 'docker version'*) seen='' trouble='' ;;
    esac
  done
  [ "$seen" ] || { echo "PATH: $PATH" >&2; fail no-engine "looked for ${wanted_engine:-$engines}"; }
  fail engine "${trouble# }${others:+ also here:$others}"
}

# A rootless docker, whose DOCKER_HOST stands in a .bashrc that nobody has read.
find_rootless() {
  rootless=$runtime
  [ "${DOCKER_HOST-}" ] || ! [ -S "$rootless/docker.sock" ] || {
    export DOCKER_HOST="unix://$rootless/docker.sock"
    { reach api docker || probe cli docker; } && return
    unset DOCKER_HOST
  }
  rootless=''
  return 1
}

# describe: what the engine that was found can do.
describe() {
  [ -z "$pin" ] || [ "$way" = ctr ] || fail engine "$engine pins no images"
  set -- $told
  version=$1 platform=$2 driver=$3 root=${4-} ctr=''
  case $platform in */arm) platform=$platform/$(uname -m) ;; esac
  # $sure: an image that it lists is whole. $since: the version since when its load takes zstd, and with it the layers of
  # $takes: docker 23 (seen: 20.10 refuses it, 26.1 takes it), podman 4, ctr 2.0, which is also the first to take gzip (seen:
  # 1.7 refuses both, 2.1 takes them). containerd 1.5 knows layers of zstd.
  store=chain sure=yes since=23 accept='none gzip' expand='' takes='tar gzip'
  case $engine in
    docker) case "$*" in *io.containerd.snapshotter*) store=blob; find_containerd ;; esac ;;
    podman) store=layer since=0 ;;
    nerdctl) store=blob sure='' since=0 ctr=content ;;
    *) store=blob sure='' since=2 takes='tar gzip zstd'; find_namespace ;;
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
  find_dd
}

# find_dd: sets $full to how dd here reads whole blocks of a pipe, or so many bytes of it.
find_dd() {
  # Older BSDs', and so macOS's, dd knows no fullblock; it tells how much it has read.
  for full in iflag=fullblock,count_bytes iflag=fullblock ''; do ! : | dd bs=1 count=0 $full >/dev/null 2>&1 || break; done
  [ "$full" ] || case $(: | dd bs=1 count=0 2>&1) in *bytes*) full=told ;; esac
}

greet() {
  say "engine $engine $version $driver"
  say "owner ${owner:-user}"
  say "store $store"
  say "platform $platform"
  say "accept $accept"
  say "layers $takes"
  [ -z "$patches" ] || say "patch$patches"
  say "capability alive idle login resume$more"
  [ -z "$maker" ] || say "maker $maker"
}

# tell_room: bytes that are free where the engine unpacks layers, for root too. Of other stores nobody tells where that is.
tell_room() {
  case $store$driver:$root in blob*) return ;; *overlay:/* | *overlay2:/* | *fuse-overlayfs:/* | *vfs:/*) ;; *) return ;; esac
  room=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 && $2 > $3 { printf "%.0f", ($2 - $3) * 1024 }')
  [ -z "$room" ] || say "free $room"
}
