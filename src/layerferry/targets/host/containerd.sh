# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $ctr is words
# What containerd holds, as $ctr tells it; the engine on it may be docker. Empty $ctr: it is not to be asked.

# find_containerd: sets $ctr to the words that ask docker's own containerd, where we are root, or sudo is meant for us.
find_containerd() {
  has ctr || return 0
  address=${rootless:-/run}/docker/containerd/containerd.sock
  [ -S "$address" ] || address=${CONTAINERD_ADDRESS:-/run/containerd/containerd.sock}
  ctr="ctr -a $address --connect-timeout 2s -n moby"
  [ -z "$rootless" ] || return 0
  case "$cli $(id -u) $(id -Gn) " in
    'sudo '*) ctr="$root $ctr" ;;
    'docker 0 '*) [ -e "$address" ] || ctr='' ;;
    *' sudo '* | *' wheel '* | *' admin '*) ctr="$root $ctr" ;;
    *) ctr='' ;;
  esac
}

# find_namespace: sets $driver and $ctr to the namespace that was said, or that somebody uses here.
find_namespace() {
  driver=${space:-k8s.io}
  # shellcheck disable=SC2005,SC2046 # this puts the lines onto one
  [ "$space" ] || [ "$engine" != ctr ] || case " $(echo $($cli namespaces ls -q)) " in
    *' k8s.io '*) ;;
    *' moby '*) driver=default; [ "$wanted_engine" ] || fail engine "containerd is docker's, and there is no docker" ;;
    *) driver=default ;;
  esac
  cli="$cli -n $driver"
  ctr=$cli
}

# find_snapshotter: sets $options of an import to the snapshotter of the images that are here. With it, ctr 2 imports by
# itself, and takes no archive that is compressed.
find_snapshotter() {
  options=$(say "$held" | awk -v major="$number" '@containerd_snapshotter.awk@')
  case $options:$compression in
    --local*:none) ;;
    --local*) if has $compression; then expand="$expand $compression"; else options=''; fi ;;
  esac
}

# sift: sets $sifted to what of $held has to do with $asks, $roots to the images that it may belong to.
sift() {
  sifted='' roots=''
  [ "$ctr" ] || return 0
  sifted=$(awk '@containerd_content.awk@' <<HELD
$asks
end
$held
HELD
)
  roots=$(say "$sifted" | awk '$1 == "image" { for (i = 5; i <= NF; i++) print $i }')
}

# ask_containerd: sets $known to lines "blob ...", $same to lines "ID ROOT" of images that are here whole. Only what an image
# of the engine keeps counts: the rest may be gone before we build on it.
ask_containerd() {
  known='' same='' looked=yes
  [ "$ctr" ] || return 0
  chosen=''
  while read -r word manifest config whole roots; do
    [ "$word" = image ] || continue
    for candidate in $roots; do
      is_here "$candidate" || continue
      chosen="$chosen $manifest"
      [ "$whole" = 0 ] || same="$same
$manifest $candidate
$config $candidate
$candidate $candidate
"
      break
    done
  done <<SIFTED
$sifted
SIFTED
  # Of one image that is here, nobody wants to know the blobs.
  case "$same" in *"
${only:-none} "*) return ;; esac
  [ -z "$chosen" ] || known=$({
    say "$sifted"
    for manifest in $chosen; do $ctr content get "$manifest" && echo; done
  } | awk '@containerd_blobs.awk@')
  [ -z "$known" ] || say "$known"
}
