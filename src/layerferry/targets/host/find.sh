# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and words are made of them
# Which engine, where, and in which way it is talked to.
#
# There are four ways, $way: cli, api, ctr and nerdctl. Each has the same nine functions; $cli is the engine's command.
#
#   probe                    sets $told to what `info` says; and, where that is quicker at once, $ids and $listed to all
#                            that `list` says
#   info                     "VERSION OS/ARCH DRIVER ROOT STATUS", ROOT where it keeps images, as docker and podman tell it;
#                            nothing that starts with a digit where the engine is not reached
#   list [ID... | ours]      lines "ID NAME", the newest first: all, or at least those of these, or at least throw-away ones
#   layers                   "ID DIFFID DIFFID..." of the images whose IDs or names stand on stdin, of those that it has
#   show IMAGE...            a line for each, which starts with its ID
#   load                     takes an archive from stdin
#   tag IMAGE NAME           gives it that name
#   remove NAME [all]        takes that name away; all: and what else has come of its load
#   push NAME TOKEN BASIC    pushes it; only where the store goes by blob
#
# info, list and load may be the last that their process does. What one says on stderr where it fails is told the user.

# reach WAY COMMAND...: whether an engine answers.
reach() {
  way=$1 ids='' listed='' told=''
  shift
  cli=$*
  "${way}_probe"
  case $told in [0-9]*) ;; *) return 1 ;; esac
}

# probe WAY COMMAND...: the same, and why not, in $trouble.
probe() { reach "$@" || { trouble="$trouble $cli: $("${way}_info" 2>&1 | tail -n 1)"; return 1; }; }

# A docker or podman that is here and does not run is no reason to put the image where nobody looks for it.
find_engine() {
  trouble='' seen='' runtime=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  case $space in -* | *[!A-Za-z0-9._-]*) refuse engine "$space" ;; esac
  engines='docker podman k3s ctr nerdctl'
  case " $engines " in *" ${wanted_engine:-docker} "*) engines=${wanted_engine:-$engines} ;; *) engines= ;; esac
  for engine in $engines; do
    case $seen in *docker* | *podman*) [ "$engine" = podman ] || break ;; esac
    has "$engine" || continue
    seen="$seen $engine" by=cli words=$engine
    case $engine in
      docker) reach api docker && return ;;
      k3s) by=ctr words='k3s ctr' ;;
      ctr) by=ctr ;;
      nerdctl) by=nerdctl words="nerdctl${space:+ -n $space}"; export XDG_RUNTIME_DIR="$runtime" ;;
    esac
    probe $by $words && return
    [ "$engine" = docker ] && find_rootless && return
    has sudo || continue
    # Nor the one of root, where the user has one of his own.
    [ "$by" != ctr ] || [ "$wanted_engine" ] || ! [ -e "$runtime/containerd-rootless" ] || ! has nerdctl || continue
    # sudo's own PATH may lack /usr/local/bin, where k3s is.
    case $engine in k3s | ctr | nerdctl) words=$(command -v "$engine")${words#"$engine"} ;; esac
    probe $by sudo -n $words && return
  done
  [ "$seen" ] || fail no-engine "looked for ${wanted_engine:-$engines} in $PATH"
  fail engine "$trouble"
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
  set -- $told
  version=$1 platform=$2 driver=$3 root=${4-} ctr=''
  # $sure: an image that it lists is whole. $since: the version since when its load takes zstd, and with it the layers of
  # $takes: docker 23 (seen: 20.10 refuses it, 26.1 takes it), podman 4, ctr 2.0, which is also the first to take gzip (seen:
  # 1.7 refuses both, 2.1 takes them). containerd 1.5 knows layers of zstd.
  store=chain sure=yes since=23 accept='none gzip' expand='' takes='tar gzip'
  case $engine in
    docker) case "$*" in *io.containerd.snapshotter*) store=blob; find_containerd ;; esac ;;
    podman) store=layer since=0 ;;
    nerdctl) store=blob sure='' since=0 ctr=content ;;
    k3s | ctr) store=blob sure='' since=2 takes='tar gzip zstd'; find_namespace ;;
  esac
  if [ "${version%%.*}" -ge $since ] 2>/dev/null; then
    accept="$accept zstd" takes='tar gzip zstd'
  else
    [ $way != ctr ] || { expand=gzip; has gzip || accept=none; }
    has zstd && accept="$accept zstd" expand="$expand zstd"
  fi
  find_patch
  full=iflag=fullblock
  : | dd bs=1 count=0 $full >/dev/null 2>&1 || full=''
}

greet() {
  say "engine $engine $version $driver"
  say "store $store"
  say "platform $platform"
  say "accept $accept"
  say "layers $takes"
  [ -z "$patches" ] || say "patch$patches"
  say 'capability alive idle login'
  [ -z "$maker" ] || say "maker $maker"
}

# tell_room: bytes that are free where the engine unpacks layers, for root too. Of other stores nobody tells where that is.
tell_room() {
  case $store$driver:$root in blob*) return ;; *overlay:/* | *overlay2:/* | *fuse-overlayfs:/* | *vfs:/*) ;; *) return ;; esac
  room=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 && $2 > $3 { printf "%.0f", ($2 - $3) * 1024 }')
  [ -z "$room" ] || say "free $room"
}
