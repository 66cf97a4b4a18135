# The target's part of the conversation (conversation.py tells it), in POSIX sh, on a host that has an engine and
# nothing else of ours. It arrives through stdin, without these comments; nothing is written to the host's disk.
export LC_ALL=C
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/snap/bin:/opt/bin:/opt/docker/bin
# Synology: Container Manager, and Docker before it. QNAP: Container Station.
PATH=$PATH:/var/packages/ContainerManager/target/usr/bin:/var/packages/Docker/target/usr/bin
PATH=$PATH:/share/CACHEDEV1_DATA/.qpkg/container-station/bin

say() { printf '%s\n' "$*"; }

# fail KIND TEXT: the verdict, one line; TEXT is an engine's, so control characters go.
fail() {
  kind=$1
  shift
  say "failed $kind $(printf '%s' "$*" | tr -s '\000-\037' ' ' | cut -c 1-2000)"
  exit 1
}

# probe COMMAND...: if COMMAND reaches an engine, sets $told to "VERSION OS/ARCH DRIVER STATUS", and $ids to every image
# as a line "ID NAME". An engine's command takes longer to start than to answer, so both are asked at once.
probe() {
  case $engine in
    podman) format='{{.Version.Version}} {{.Version.OsArch}} {{.Store.GraphDriverName}}' ;;
    *) format='{{.ServerVersion}} {{.OSType}}/{{.Architecture}} {{.Driver}}{{range .DriverStatus}} {{index . 1}}{{end}}' ;;
  esac
  ids=$(
    "$@" image ls --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}' 2>/dev/null &
    told=$("$@" info --format "$format" 2>/dev/null)
    wait
    say "told $told"
  )
  told=${ids##*told } ids=${ids%told *}
  case $told in [0-9]*) return 0 ;; esac
  trouble="$trouble $*: $("$@" info --format "$format" 2>&1 | tail -n 1)"
  return 1
}

find_engine() {
  trouble='' seen=''
  for engine in ${wanted_engine:-docker podman}; do
    command -v "$engine" >/dev/null 2>&1 || continue
    seen="$seen $engine" cli=$engine
    probe "$engine" && return
    command -v sudo >/dev/null 2>&1 && cli="sudo -n $engine" && probe sudo -n "$engine" && return
  done
  [ "$seen" ] || fail no-engine "looked for ${wanted_engine:-docker podman} in $PATH"
  fail engine "$trouble"
}

describe() {
  # shellcheck disable=SC2086
  set -- $told
  version=$1 platform=$2 driver=$3 store=chain
  show='{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}'
  [ "$engine" = podman ] && store=layer show="sha256:$show"
  case "$*" in *io.containerd.snapshotter*) store=blob ;; esac
  # docker load takes zstd since 23.0 (seen: 20.10 refuses it, 26.1 takes it), podman since 4.
  accept='none gzip' expand='' takes='tar gzip'
  if [ "$engine" = podman ] || [ "${version%%.*}" -ge 23 ] 2>/dev/null; then
    accept="$accept zstd" takes="$takes zstd"
  elif command -v zstd >/dev/null 2>&1; then
    accept="$accept zstd" expand=zstd
  fi
  full=iflag=fullblock
  : | dd bs=1 count=0 $full >/dev/null 2>&1 || full=''
}

greet() {
  say "engine $engine $version $driver"
  say "store $store"
  say "platform $platform"
  say "accept $accept"
  say "layers $takes"
}

# Every image as a line "ID DIFFID DIFFID ...", the newest first. The containerd store takes 30 ms for each (docker
# 28.5), so that of a crowd only the newest are looked at: what is missed is sent.
list_images() {
  crowd=cat
  [ $store != blob ] || crowd='head -n 200'
  # shellcheck disable=SC2086
  [ -z "$ids" ] ||
    images=$(printf '%s' "$ids" | cut -d ' ' -f 1 | uniq | $crowd | xargs $cli image inspect --format "$show" 2>/dev/null)
}

# answer ID DIFFID...: what is here of one image that was asked for.
answer() {
  asked=$1
  shift
  say "image $asked"
  case "
$ids" in *"
$asked "*) say present; return ;; esac
  [ $# -gt 0 ] || return 0
  [ "$images" ] || list_images
  depth=0 holder='' need="$1 " rest=$* all=$#
  while read -r id layers; do
    [ "$layers" != "$rest" ] || { holder=$id depth=$all; break; }
    case "$layers " in "$need"*) ;; *) continue ;; esac
    holder=$id depth=0 need=''
    # shellcheck disable=SC2086
    set -- $layers
    for want in $rest; do
      need="$need$want "
      [ "$want" = "${1-}" ] || break
      depth=$((depth + 1))
      shift
    done
  done <<LIST
$images
LIST
  say "chain $depth $holder"
  [ $store = chain ] || answer_loose
}

# Layers beyond the chain's prefix that some image holds, each with one such image.
answer_loose() {
  missing='' n=0
  for want in $rest; do
    n=$((n + 1))
    [ $n -le $depth ] || missing="$missing $want"
  done
  [ "$missing" ] || return 0
  while read -r id layers; do
    left=''
    for want in $missing; do
      case " $layers " in
        *" $want "*)
          # shellcheck disable=SC2086
          set -- ${layers%%"$want"*}
          say "loose $want $# $id" ;;
        *) left="$left $want" ;;
      esac
    done
    missing=$left
    [ "$missing" ] || break
  done <<LIST
$images
LIST
}

# Reads the ask: "image ID", then its layers, for each image; "end". The engine is asked before it comes.
inventory() {
  asks='' images='' line=''
  # Where a shell reads us from its stdin, our own last line comes first.
  while read -r verb wanted_engine && [ "$verb" != engine ]; do :; done
  [ "$verb" = engine ] || exit 1
  find_engine
  describe
  greet
  while read -r verb word _; do
    case $verb in
      image) asks="$asks$line
" line=$word ;;
      layer) line="$line $word" ;;
      end) break ;;
    esac
  done
  [ "$verb" = end ] || exit 1
  while read -r line; do
    # shellcheck disable=SC2086
    [ "$line" ] && answer $line
  done <<ASKS
$asks$line
ASKS
  say end
}

# frames: copies the chunks "LENGTH\n" BYTES from stdin to stdout, up to a length of 0.
# dd reads just what it is told to; nothing else in POSIX leaves the rest of a pipe alone.
frames() {
  while read -r length; do
    [ "$length" = 0 ] && return
    if [ "$full" ]; then
      dd bs="$length" count=1 $full 2>/dev/null || return
    else
      dd bs=1 count="$length" 2>/dev/null || return
    fi
  done
}

load() {
  case $compression in
    zstd) [ -z "$expand" ] || { frames | zstd -dcq | $cli load; return; } ;;
  esac
  frames | $cli load
}

# name IMAGE NAME: gives it that name, unless it was seen to have it.
name() {
  shown=$2
  if [ "$engine" = docker ]; then shown=${shown#docker.io/} shown=${shown#library/}; fi
  case "
$ids" in *"
$1 $shown
"*) return ;; esac
  text=$($cli tag "$1" "$2" 2>&1) || fail tag "$text"
}

drop() {
  for name in $incoming; do $cli image rm "$name" >/dev/null 2>&1; done
  incoming=''
}

# receive COMPRESSION: loads the archive under its throw-away names, and shows what the engine made of it.
receive() {
  compression=$1 incoming=$names
  text=$(load 2>&1 >/dev/null) || fail load "$text"
  for name in $incoming; do
    # What an engine warns of on stderr is no part of its answer (seen: podman 5 on cgroups v1).
    shown=$($cli image inspect --format "$show" "$name" 2>/dev/null) || fail verify "the engine does not show $name"
    expected=$(printf '%s' "$header" | while read -r key layers; do [ "$key" = "$name" ] && say "$layers"; done)
    [ "${shown#* }" = "$expected" ] || [ "$shown" = "${shown#* }$expected" ] ||
      fail verify "the engine shows other layers than were sent"
    say "loaded $name ${shown%% *}"
  done
  say end
}

# learn IMAGE NAME: the daemon pushes IMAGE to a registry that claims to hold everything, and so tells its blobs.
learn() {
  learning=$2 limit='' verdict=no
  command -v timeout >/dev/null 2>&1 && limit='timeout 10'
  # shellcheck disable=SC2086
  $cli tag "$1" "$2" >/dev/null 2>&1 && $limit $cli push "$2" >/dev/null 2>&1 && verdict=yes
  say "learned $verdict"
  $cli image rm "$2" >/dev/null 2>&1
  learning=''
}

cleanup() {
  trap '' HUP INT TERM PIPE
  drop
  [ "$learning" ] && $cli image rm "$learning" >/dev/null 2>&1
}

main() {
  incoming='' learning='' names='' header='' wanted_engine=''
  trap cleanup EXIT
  trap 'exit 129' HUP INT TERM PIPE
  printf '\nlayerferry 1 sh\n' # on a line of its own, whatever a login shell has printed
  inventory
  while read -r verb one two; do
    case $verb in
      learn) learn "$one" "$two" ;;
      expect)
        names="$names $one" header="$header$one $two
" ;;
      load) receive "$one" ;;
      tag) name "$one" "$two" ;;
      'done') drop; say 'done' ;;
    esac
  done
}

main
exit 0
