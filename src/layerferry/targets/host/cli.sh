# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $cli is words
# The way to an engine through its own command, $cli: docker's, or one that takes the same words.

# A command takes longer to start than to answer, so it is asked for both at once. In ksh93, which makes no process of
# this substitution, a `wait` for all would wait for the ticker, too.
cli_probe() {
  listed=yes
  ids=$(
    "${way}_list" 2>/dev/null &
    told=$("${way}_info" 2>/dev/null) || told=''
    wait $!
    say "told $told"
  )
  told=${ids##*told } ids=${ids%told *}
}

# is_sure: whether the kernel's word for this machine is its programs' too. A kernel of 64 bits runs those of 32.
is_sure() { case $(uname -m) in *64*) [ "$(getconf LONG_BIT 2>/dev/null)" = 64 ] ;; esac; }

# What `info` tells is the kernel's platform.
own_platform() {
  side=Server
  [ "$engine" = docker ] || side=Client
  { ! is_sure && $cli version --format "{{.$side.Os}}/{{.$side.Arch}}" 2>/dev/null | grep '^[a-z0-9]*/[a-z0-9]*$'; } ||
    say '{{.OSType}}'
}

cli_info() {
  [ "$engine" = podman ] || base="{{.ServerVersion}} $(own_platform)/{{.Architecture}} {{.Driver}}"
  case $engine in
    podman) base='{{.Version.Version}} {{.Version.OsArch}} {{.Store.GraphDriverName}} {{.Store.GraphRoot}}' ;;
    docker) base="$base {{.DockerRootDir}}{{range .DriverStatus}} {{index . 1}}{{end}} {{.SecurityOptions}}" ;;
  esac
  exec $cli info --format "$base"
}

cli_list() { exec $cli image ls --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'; }

cli_layers() {
  # Not .Id: docker would look at the JSON then, where an image without layers has no RootFS.Layers (seen on 26.1).
  id='{{.ID}}'
  [ "$engine" != podman ] || id="sha256:$id"
  xargs $cli image inspect --format "$id{{range .RootFS.Layers}} {{.}}{{end}}" 2>/dev/null
}

cli_folders() {
  $cli image inspect --format '{{with .GraphDriver.Data}}{{.UpperDir}}{{with .LowerDir}}:{{.}}{{end}}{{end}}' "$1"
}

cli_show() { printf '%s\n' "$@" | cli_layers; }

cli_load() { exec $cli load; }

cli_tag() { $cli tag "$1" "$2"; }

cli_remove() { $cli image rm "$1"; }

cli_push() {
  folder=$(umask 077; mktemp -d /dev/shm/layerferry.XXXXXX || mktemp -d) || return
  say '{"auths":{"'"${1%%/*}"'":{"auth":"'"$3"'"}}}' >"$folder/config.json" || return
  limit=''
  has timeout && limit='timeout 10'
  $limit $cli --config "$folder" push "$1"
}
