# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and words are made of them
# Every engine that is looked for, where docker's API does not answer us at once, or another one is wanted.

# probe WAY COMMAND...: the same, and why not, in $trouble.
probe() {
  reach "$@" && return
  if answers; then why="its images are those of $owner"; else why=$("${way}_info" 2>&1 | tail -n 1); fi
  trouble="$trouble $cli: $why;"
  return 1
}

# find_others: the first that is installed is the one that people here use. Where it does not run, or refuses this user, that is no reason
# to put the image where nobody looks for it. Of a containerd that ctr does not reach, nerdctl may be the way.
find_others() {
  search
  [ -z "$pin" ] || [ "$way" = ctr ] || fail engine "$engine pins no images"
}

search() {
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

# describe_other: what the store of another engine than docker is, as `describe` tells it.
describe_other() {
  case $engine in
    podman) store=layer since=0 ;;
    nerdctl) store=blob sure='' since=0 ctr=content ;;
    *) store=blob sure='' since=2 takes='tar gzip zstd'; find_namespace ;;
  esac
}
