# shellcheck shell=sh # it is fed to one, and needs no first line that names it
# The target's part of the conversation (conversation.py tells it), in POSIX sh, on a host that has an engine and
# nothing else of ours. It arrives through stdin, without these comments; nothing is written to the host's disk.
# Whoever made a word that we read, it is looked at before it becomes a part of a URL or a command.
export LC_ALL=C
set -f
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

has() { command -v "$1" >/dev/null 2>&1; }

is_digest() {
  case $1 in sha256:*[!0-9a-f]*) return 1 ;; sha256:*) [ ${#1} = 71 ] ;; *) return 1 ;; esac
}

# is_name WORD: of the characters of a reference; it leads nowhere else as a part of a URL, and is no option.
is_name() {
  case $1 in -* | ..* | */..* | *../* | *//* | *[!][A-Za-z0-9._:/-]*) return 1 ;; ?*:?*) [ ${#1} -le 500 ] ;; *) return 1 ;; esac
}

# is_ours WORD: a throw-away name.
is_ours() {
  case $1 in
    localhost/layerferry:*[!0-9a-f-]*) return 1 ;;
    localhost/layerferry:[0-9a-f]?*) [ ${#1} -lt 100 ] ;;
    *) return 1 ;;
  esac
}

# refuse VERB WORD: what the client should not have said. Nothing was done of it.
refuse() { fail protocol "$*"; }

# There are three ways to an engine, $way: `command`, its own ($cli); `ctr`, which knows blobs and leaves the rest to us;
# and `api`, docker's, over its socket: docker's command takes 40 ms to start, curl 6.

# api OPTION... URL: what docker answers is JSON without a space, and a line.
at=http://docker
api() { curl -qgsS --noproxy '*' --unix-socket "$socket" "$@"; }

# complain TEXT: the message of an error in docker's JSON, or all of what curl says.
complain() { say "$1" | sed 's/.*"message":"//; s/"[,}].*//' >&2; }

# tell names|layers: of images in docker's JSON, lines "ID ", "ID NAME", "ID NAME"..., or a line "ID DIFFID DIFFID...".
tell() {
  sed 's/"Labels":{[^{}]*}//g' | awk -v what="$1" '
    BEGIN { RS = "{" }
    function list(key, n) {
      match($0, "\"" key "\":\\[[^]]*")
      text = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
      gsub(/"/, "", text)
      return split(text, item, ",")
    }
    match($0, /"Id":"sha256:[0-9a-f]+"/) && RLENGTH == 78 {
      id = substr($0, RSTART + 6, 71)
      if (what == "names") print id " "
    }
    what == "names" && /"RepoTags":\[/ { for (n = list("RepoTags"); n; n--) print id, item[n] }
    what == "layers" && /"Type":"layers"/ {
      count = list("Layers")
      line = id
      for (n = 1; n <= count; n++) line = line " " item[n]
      print line
    }'
}

# fetch names|layers: tells that of the images whose IDs or names stand on stdin.
fetch() { sed "s|.*|url = \"$at/images/&/json\"|" | api -f -K - 2>/dev/null | tell "$1"; }

# info COMMAND...: "VERSION OS/ARCH DRIVER STATUS" of the engine that COMMAND reaches.
info() {
  base='{{.ServerVersion}} {{.OSType}}/{{.Architecture}} {{.Driver}}'
  case $engine in
    k3s | ctr)
      "$@" version | awk -v on="$(uname -sm)" '/^Server/ { there = 1 }
        there && $1 == "Version:" { sub(/^v/, "", $2); sub(" ", "/", on); print $2, on; exit }'
      return ;;
    podman) set -- "$@" info --format '{{.Version.Version}} {{.Version.OsArch}} {{.Store.GraphDriverName}}' ;;
    nerdctl) set -- "$@" info --format "$base" ;;
    *) set -- "$@" info --format "$base{{range .DriverStatus}} {{index . 1}}{{end}}" ;;
  esac
  exec "$@"
}

# list COMMAND...: every image of the engine as a line "ID NAME", the newest first. Of containerd's, few are asked for
# later.
list() {
  case $engine in k3s | ctr) return ;; esac
  exec "$@" image ls --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'
}

# probe COMMAND...: sets $cli, $told and $ids if COMMAND reaches an engine. An engine's command takes longer to start than
# to answer, so it is asked for both at once.
probe() {
  cli=$* way='command' listed=yes
  ids=$(
    list "$@" 2>/dev/null &
    told=$(info "$@" 2>/dev/null) || told=''
    wait
    say "told $told"
  )
  told=${ids##*told } ids=${ids%told *}
  case $told in [0-9]*) return 0 ;; esac
  trouble="$trouble $*: $(info "$@" 2>&1 | tail -n 1)"
  return 1
}

# probe_api: the same for docker's socket, if it is open to us and what docker's command would talk to; $ids comes later.
probe_api() {
  case ${DOCKER_HOST-} in
    unix://*) socket=${DOCKER_HOST#unix://} ;;
    '')
      [ -z "${DOCKER_CONTEXT-}" ] || return
      ! grep -qs '"currentContext"' "${DOCKER_CONFIG:-${HOME-}/.docker}/config.json" || return
      socket=/var/run/docker.sock ;;
    *) return 1 ;;
  esac
  has curl && [ -w "$socket" ] || return
  # podman answers on such a socket too.
  told=$(api -f "$at/info" 2>/dev/null | awk '
    BEGIN { RS = ","; FS = "\"" }
    $3 == ":" && !($2 in fact) { fact[$2] = $4 }
    $2 ~ /^io.containerd.snapshotter/ { status = $2 }
    END {
      if (!("BuildahVersion" in fact))
        print fact["ServerVersion"], fact["OSType"] "/" fact["Architecture"], fact["Driver"], status
    }')
  case $told in [0-9]*) cli=docker way=api ids='' listed='' ;; *) return 1 ;; esac
}

# blame KIND TEXT: fails, with KIND where the engine still answers.
blame() {
  # shellcheck disable=SC2086
  case $way in api) told=$(api -f "$at/info" 2>&1) && told=0 ;; *) told=$(info $cli 2>/dev/null) ;; esac
  case $told in [0-9]*) fail "$@" ;; esac
  shift
  fail stopped "$*"
}

# A docker or podman that is here and does not run is no reason to put the image where nobody looks for it.
find_engine() {
  trouble='' seen=''
  case $wanted_space in -* | *[!A-Za-z0-9._-]*) refuse engine "$wanted_space" ;; esac
  case $wanted_engine in '' | docker | podman | k3s | ctr | nerdctl) ;; *) fail no-engine "looked for $wanted_engine in $PATH" ;; esac
  for engine in ${wanted_engine:-docker podman k3s ctr nerdctl}; do
    case $engine in k3s | ctr | nerdctl) [ "$wanted_engine" ] || [ -z "$seen" ] || break ;; esac
    has "$engine" || continue
    seen="$seen $engine" words=$engine
    [ "$engine" = docker ] && probe_api && return
    case $engine in
      k3s) words='k3s ctr' ;;
      nerdctl) words="nerdctl${wanted_space:+ -n $wanted_space}" ;;
    esac
    # shellcheck disable=SC2086
    probe $words && return
    [ "$engine" = docker ] && probe_rootless && return
    has sudo || continue
    # sudo's own PATH may lack /usr/local/bin, where k3s is.
    case $engine in k3s | ctr | nerdctl) words=$(command -v "$engine")${words#"$engine"} ;; esac
    # shellcheck disable=SC2086
    probe sudo -n $words && return
  done
  [ "$seen" ] || fail no-engine "looked for ${wanted_engine:-docker podman k3s ctr nerdctl} in $PATH"
  fail engine "$trouble"
}

# A rootless docker, whose DOCKER_HOST stands in a .bashrc that nobody has read.
probe_rootless() {
  rootless=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  [ "${DOCKER_HOST-}" ] || ! [ -S "$rootless/docker.sock" ] || {
    export DOCKER_HOST="unix://$rootless/docker.sock"
    { probe_api || probe docker; } && return
    unset DOCKER_HOST
  }
  rootless=''
  return 1
}

describe() {
  # shellcheck disable=SC2086
  set -- $told
  version=$1 platform=$2 driver=$3 store=chain
  show='{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}'
  feed=load
  case "$*" in *io.containerd.snapshotter*) store=blob ;; esac
  # docker load takes zstd since 23.0 (seen: 20.10 refuses it, 26.1 takes it), podman since 4, ctr since 2.0, which is
  # also the first to take gzip (seen: 1.7 refuses both, 2.1 takes them). containerd 1.5 knows layers of zstd.
  accept='none gzip' expand='' takes='tar gzip' zstd_since=23
  case $engine in
    podman) store=layer show="sha256:$show" zstd_since=0 ;;
    nerdctl) store=blob zstd_since=0 ;;
    k3s | ctr) way=ctr store=blob feed='images import -' takes='tar gzip zstd' zstd_since=2 ;;
  esac
  if [ "${version%%.*}" -ge $zstd_since ] 2>/dev/null; then
    accept="$accept zstd" takes='tar gzip zstd'
  else
    [ "$feed" = load ] || { expand=gzip; has gzip || accept=none; }
    has zstd && accept="$accept zstd" expand="$expand zstd"
  fi
  [ $store != blob ] || find_containerd
  full=iflag=fullblock
  : | dd bs=1 count=0 $full >/dev/null 2>&1 || full=''
}

# Sets $ctr to the words that ask the engine's own containerd: docker's too, where we are root, or sudo is meant for us.
find_containerd() {
  ctr=''
  case $engine in
    k3s | ctr)
      driver=${wanted_space:-k8s.io}
      # shellcheck disable=SC2005,SC2046 # this puts the lines onto one
      [ "$wanted_space" ] || [ "$engine" = k3s ] || case " $(echo $($cli namespaces ls -q)) " in
        *' k8s.io '*) ;;
        *' moby '*) driver=default; [ "$wanted_engine" ] || fail engine "containerd is docker's, and there is no docker" ;;
        *) driver=default ;;
      esac
      cli="$cli -n $driver"
      ctr=$cli ;;
    docker)
      has ctr || return 0
      address=${rootless:-/run}/docker/containerd/containerd.sock
      [ -S "$address" ] || address=${CONTAINERD_ADDRESS:-/run/containerd/containerd.sock}
      ctr="ctr -a $address --connect-timeout 2s -n moby"
      [ -z "$rootless" ] || return 0
      case "$cli $(id -u) $(id -Gn) " in
        'sudo '*) ctr="sudo -n $ctr" ;;
        'docker 0 '*) [ -e "$address" ] || ctr='' ;;
        *' sudo '* | *' wheel '* | *' admin '*) ctr="sudo -n $ctr" ;;
        *) ctr='' ;;
      esac ;;
  esac
}

greet() {
  say "engine $engine $version $driver"
  say "store $store"
  say "platform $platform"
  say "accept $accept"
  say "layers $takes"
  say 'capability alive idle login'
}

# Sets $ids to every image of the engine. The containerd store takes 15 ms for each (docker 28.5).
list_ids() {
  [ "$listed" ] || ids=$(api -f "$at/images/json" 2>/dev/null | tell names)
  listed=yes
}

# seek ID...: sees to it that $ids has those of them that are images of the engine.
seek() { [ "$listed" ] || ids=$(printf '%s\n' "$@" | fetch names); }

# Every image as a line "ID DIFFID DIFFID ...", the newest first. The containerd store takes 30 ms for each (docker
# 28.5), so that of a crowd only the newest are looked at: what is missed is sent.
list_images() {
  list_ids
  [ "$ids" ] || return 0
  crowd='cat'
  [ $store != blob ] || crowd='head -n 200'
  images=$(cut -d ' ' -f 1 <<IDS | uniq | $crowd | show_all
$ids
IDS
)
}

# show_all: "ID DIFFID DIFFID..." of the images whose IDs stand on stdin.
show_all() {
  [ "$way" != api ] || { fetch layers; return; }
  # shellcheck disable=SC2086
  xargs $cli image inspect --format "$show" 2>/dev/null
}

# Of all that containerd holds, whose list grows with the host: "layer BLOB DIFFID" for each blob that was asked for, and
# "image MANIFEST CONFIG WHOLE ROOT..." for a few images that hold as many of them as possible, or may be one that was
# asked for. A blob's label tells its diff ID, a plain tar is its own; other labels tell what keeps what from the GC.
# shellcheck disable=SC2016
sift='
  $1 == "end" { listing = 1; next }
  !listing { if (NF) asked[$1]; for (i = 2; i <= NF; i++) wanted[$i]; next }
  {
    here[$1]; diff = $1
    if (match($0, /containerd.io\/uncompressed=sha256:[0-9a-f]+/)) diff = substr($0, RSTART + 27, RLENGTH - 27)
    if (diff in wanted) { of[$1] = diff; print "layer", $1, diff }
    for (text = $0; match(text, /gc.ref.content[.a-z0-9]*=sha256:[0-9a-f]+/); text = substr(text, RSTART + RLENGTH)) {
      split(substr(text, RSTART, RLENGTH), ref, "=")
      if (ref[1] ~ /config$/) config[$1] = ref[2]
      else if (ref[1] ~ /[.]l[.]/) layers[$1] = layers[$1] " " ref[2]
      else roots[ref[2]] = roots[ref[2]] " " $1
    }
  }
  function tell(manifest, n, blob) {
    whole = config[manifest] in here
    for (n = split(layers[manifest], blob, " "); n; n--) { if (!(blob[n] in here)) whole = 0; delete wanted[of[blob[n]]] }
    print "image", manifest, config[manifest], whole, manifest roots[manifest]
    delete config[manifest]
  }
  END {
    for (m in config) {
      same = m in asked || config[m] in asked
      for (n = split(roots[m], root, " "); n; n--) if (root[n] in asked) same = 1
      if (same) twin[m]
    }
    for (m in twin) tell(m)
    for (round = 0; round < 8; round++) {
      most = 0
      for (m in config) {
        count = 0
        for (n = split(layers[m], blob, " "); n; n--) if (of[blob[n]] in wanted) count++
        if (count > most) { most = count; best = m }
      }
      if (!most) exit
      tell(best)
    }
  }'

# Lines "blob DIFFID DIGEST SIZE MEDIATYPE" out of what was sifted and the manifests that were chosen of it.
# shellcheck disable=SC2016
blobs='
  function get(key) {
    if (!match(part[i], "\"" key "\":\"?[^,\"]+")) return ""
    value = substr(part[i], RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    sub(/^"/, "", value)
    return value
  }
  $1 == "layer" { of[$2] = $3; next }
  $1 != "image" { text = text $0 }
  END {
    gsub(/[ \t\r]/, "", text)
    n = split(text, part, /[{}]/)
    for (i = 1; i <= n; i++) if ((blob = get("digest")) in of) {
      print "blob", of[blob], blob, get("size"), get("mediaType")
      delete of[blob]
    }
  }'

# Sets $ids to those images of the engine that were asked for, or may keep what was, and to more where it has listed all.
find_images() {
  sifted='' roots=''
  [ -z "$ctr" ] || {
    sifted=$(awk "$sift" <<HELD
$asks
end
$held
HELD
)
    roots=$(say "$sifted" | awk '$1 == "image" { for (i = 5; i <= NF; i++) print $i }')
  }
  # shellcheck disable=SC2046,SC2086
  case $way in
    ctr) [ -z "$roots" ] || ids=$($ctr images ls $(printf 'target.digest==%s\n' $roots) | awk 'NR > 1 { print $3, $1 }') ;;
    api) seek $(say "$asks" | cut -d ' ' -f 1) $roots ;;
  esac
}

# What containerd knows without the engine: sets $known to lines "blob ...", $same to lines "ID ROOT" of images that are
# here whole. Only what an image of the engine keeps counts: the rest may be gone before we build on it.
ask_containerd() {
  known='' same='' looked=yes
  [ "$ctr" ] || return 0
  chosen=''
  while read -r word manifest config whole roots; do
    [ "$word" = image ] || continue
    for root in $roots; do
      is_here "$root" || continue
      chosen="$chosen $manifest"
      [ "$whole" = 0 ] || same="$same
$manifest $root
$config $root
$root $root
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
  } | awk "$blobs")
  [ -z "$known" ] || say "$known"
}

is_here() {
  case "
$ids" in *"
$1 "*) ;; *) return 1 ;; esac
}

# answer ID DIFFID...: what is here of one image that was asked for.
answer() {
  asked=$1
  shift
  say "image $asked"
  [ "$way" = ctr ] || ! is_here "$asked" || { say present; offered="$offered $asked"; return; }
  [ "$looked" ] || ask_containerd
  case "$same" in *"
$asked "*)
    asked=${same#*"
$asked "}
    asked=${asked%%
*}
    say "same $asked"
    offered="$offered $asked"
    return ;;
  esac
  [ $# -gt 0 ] || return 0
  # What containerd tells makes the engine's own list needless: it takes 30 ms for each image.
  case "$engine $known" in ctr* | k3s* | nerdctl* | *"blob $1 "*) return ;; esac
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
  offered="$offered $holder"
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
          say "loose $want $# $id"
          offered="$offered $id" ;;
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
  while read -r verb wanted_engine wanted_space && [ "$verb" != engine ]; do :; done
  [ "$verb" = engine ] || exit 1
  find_engine
  describe
  greet
  # While the ask is still on its way.
  held=''
  [ -z "$ctr" ] || held=$($ctr content ls 2>/dev/null)
  [ $store = blob ] || list_ids
  while read -r verb word _; do
    case $verb in
      image | layer) is_digest "$word" || refuse "$verb" "$word" ;;
      dry-run) stage=dry ;;
      end) break ;;
    esac
    case $verb in
      image) asks="$asks$line
" line=$word ;;
      layer) line="$line $word" ;;
    esac
  done
  [ "$verb" = end ] || exit 1
  only='' looked=''
  [ "${asks%?}" ] || only=${line%% *}
  asks=$asks$line
  find_images
  while read -r line; do
    # shellcheck disable=SC2086
    [ "$line" ] && answer $line
  done <<ASKS
$asks
ASKS
  say end
}

# frames: copies the chunks "LENGTH\n" BYTES from stdin to stdout, up to a length of 0; "-" is a sign of life.
# dd reads just what it is told to; nothing else in POSIX leaves the rest of a pipe alone. It holds one block at a time:
# small ones let the network and the engine go on side by side.
frames() {
  # shellcheck disable=SC2016
  me=$(exec sh -c 'echo $PPID')
  while mark wait "$me"; read -r length; do
    case $length in -) continue ;; 0 | '' | *[!0-9]* | ?????????*) break ;; esac
    if [ "$full" ] && [ $((length % 65536)) = 0 ]; then
      copy bs=65536 count=$((length / 65536)) $full || break
    elif [ "$full" ]; then
      copy bs="$length" count=1 $full || break
    else
      copy bs=1 count="$length" || break
    fi
  done
  mark work
}

copy() {
  dd "$@" <&5 2>/dev/null &
  mark wait "$me $!"
  wait $!
}

load() {
  case " $expand " in
    *" $compression "*) frames | $compression -dcq | feed ;;
    *) frames | feed ;;
  esac
}

feed() {
  case $way in
    api)
      # Where the load fails, the stream of what docker says has begun with a 200, and ends with a message.
      text=$(api -X POST -H Expect: -H 'Content-Type: application/x-tar' -T - "$at/images/load?quiet=1" 2>&1) &&
        case $text in *'"message":'*) false ;; esac && return
      complain "$text"
      return 1 ;;
    # ctr that is killed leaves a lease for a day; at the end of its input it leaves nothing.
    ctr) trap '' HUP INT ;;
  esac
  # shellcheck disable=SC2086
  exec $cli $feed
}

# show NAME: "IMAGEID DIFFID DIFFID..." of an image that is complete.
show() {
  [ "$way" = ctr ] || { say "$1" | show_all; return; }
  manifest=$($ctr images check "name==$1" 2>/dev/null | awk '$4 == "complete" { print $3 }')
  [ "$manifest" ] || return
  config=$($ctr content get "$manifest" | tr -d ' \n' | sed 's/.*"config":{[^{}]*"digest":"\([^"]*\).*/\1/')
  say "$manifest" "$($ctr content get "$config" | tr -d ' \n' | sed 's/.*"diff_ids":\[\([^]]*\).*/\1/; s/"//g; s/,/ /g')"
}

# name_it IMAGE NAME: gives it that name, unless it was seen to have it; `confirm` sees what has become of that.
name_it() {
  if [ "$way" != ctr ]; then
    seen=$2
    [ "$engine" != docker ] || { seen=${seen#docker.io/} seen=${seen#library/}; }
    case "
$ids
" in *"
$1 $seen
"*) ;; *) put_tag "$1" "$2" ;; esac
    return
  fi
  case $1 in sha256:*) by=target.digest ;; *) by=name ;; esac
  found=$($ctr images ls "$by==$1" "name==$2" | awk -v name="$2" -v id="$1" '
    NR == 1 { next }
    $1 == name { old = $3; next }
    { from = $1; id = $3 }
    END { if (id == old) print name; else print from }')
  case $found in "$2") ;; '') say "$1 is not there"; return 1 ;; *) $ctr images tag --force "$found" "$2" ;; esac
}

# confirm: whether each name that was given is its image now, as the engine shows both.
confirm() {
  # shellcheck disable=SC2086
  set -- $given
  [ $# -gt 0 ] || return 0
  if [ "$way" = ctr ]; then
    for name; do
      case $name in sha256:*) say "$name" ;; *) $ctr images ls "name==$name" | awk 'NR > 1 { print $3 }' ;; esac
    done
  else
    printf '%s\n' "$@" | show_all
  fi | awk -v all=$# 'NR % 2 { id = $1; next } $1 == id { same += 2 } END { exit same != all }'
}

# finish: what is told as done was seen last. Somebody else may have moved a name since we listed them.
finish() {
  ids=''
  confirm || {
    # shellcheck disable=SC2086
    set -- $given
    while [ $# -gt 0 ]; do put_name "$1" "$2"; shift 2; done
    confirm || blame verify "a name shows another image"
  }
  drop
  say 'done'
}

put_name() { text=$(name_it "$1" "$2" 2>&1) || blame tag "$text"; }

put_tag() {
  [ "$way" = api ] || { $cli tag "$1" "$2"; return; }
  text=$(api -X POST "$at/images/$1/tag?repo=${2%:*}&tag=${2##*:}" 2>&1) && [ -z "$text" ] || { complain "$text"; return 1; }
}

remove() {
  case $way in
    api) api -X DELETE "$at/images/$1" ;;
    *) $cli image rm "$1" ;;
  esac >/dev/null 2>&1
}

# drop [all]: the throw-away names go. What Kubernetes' part of containerd has named "sha256:..." because of them does
# too where nothing else came of the load.
drop() {
  for name in $incoming; do
    [ "$way" = ctr ] || { remove "$name"; continue; }
    more=''
    [ $# = 0 ] || more=$(
      digest=$($ctr images ls "name==$name" | awk 'NR > 1 { print $3 }')
      say "$before" end
      [ -z "$digest" ] || $ctr images ls "target.digest==$digest"
    )
    more=$(say "$more" | awk -v name="$name" '
      $1 == "end" || $1 == "REF" { listed = 1; next }
      !listed { old[$1]; next }
      $1 == name { next }
      /^sha256:/ { if (!($1 in old)) all = all " " $1; next }
      { all = ""; exit }
      END { print all }')
    # shellcheck disable=SC2086
    $ctr images rm ${1:+--sync} "$name" $more >/dev/null 2>&1
  done
  incoming=''
}

# sweep: throw-away names that are a day older than ours go. Their session died with its host or its engine.
sweep() {
  time=${one_name##*:} names_here=$ids
  case $time in ????????-*) time=${time%%-*} ;; *) return ;; esac
  case $way$listed in
    ctr*) names_here=$before ;;
    api) names_here=$(api -f "$at/images/json?filters=%7B%22reference%22%3A%5B%22localhost%2Flayerferry%22%5D%7D" | tell names) ;;
  esac
  for name in $names_here; do
    is_ours "$name" || continue
    old=${name##*:}
    case $old in ????????-*) ;; *) continue ;; esac
    [ $((0x$time - 0x${old%%-*})) -lt 86400 ] || incoming="$incoming $name"
  done
  drop all
}

# receive COMPRESSION: loads the archive under its throw-away names, and shows what the engine made of it.
receive() {
  compression=$1 before=''
  [ "$way" != ctr ] || before=$($ctr images ls -q)
  sweep 2>/dev/null
  incoming=$names
  text=$(load 2>&1 >/dev/null) || blame load "$text"
  for name in $incoming; do
    # What an engine warns of on stderr is no part of its answer (seen: podman 5 on cgroups v1).
    shown=$(show "$name") && [ "$shown" ] || blame verify "the engine does not show $name"
    expected=$(printf '%s' "$header" | while read -r key layers; do [ "$key" = "$name" ] && say "$layers"; done)
    [ "${shown#* }" = "$expected" ] || [ "$shown" = "${shown#* }$expected" ] ||
      fail verify "the engine shows other layers than were sent"
    say "loaded $name ${shown%% *}"
  done
  say end
}

# learn IMAGE NAME TOKEN BASIC: the daemon pushes IMAGE to a registry that claims to hold everything, and so tells its
# blobs. The credentials are in no command line.
learn() {
  case $3$4 in '' | *[!A-Za-z0-9+/=_-]*) refuse learn ;; esac
  { is_digest "$1" && is_name "$2"; } || refuse learn "$1 $2"
  case " $offered  $2" in *" $1 "*\ 127.0.0.1:[1-9]*/?*:learn) ;; *) refuse learn "$1 $2" ;; esac
  learning=$2 verdict=no
  put_tag "$1" "$2" >/dev/null 2>&1 && push_it "$2" "$3" "$4" >/dev/null 2>&1 && verdict=yes
  say "learned $verdict"
  remove "$2"
  forget
}

push_it() {
  if [ "$way" = api ]; then
    text=$(api -f -m 10 -X POST -K - "$at/images/${1%:*}/push?tag=${1##*:}" <<HEADER
header = "X-Registry-Auth: $2"
HEADER
) || return
    case $text in *'"error":'*) return 1 ;; esac
    return
  fi
  folder=$(umask 077; mktemp -d /dev/shm/layerferry.XXXXXX || mktemp -d) || return
  say '{"auths":{"'"${1%%/*}"'":{"auth":"'"$3"'"}}}' >"$folder/config.json" || return
  limit=''
  has timeout && limit='timeout 10'
  # Every engine that stores by blob, and is not asked through the API, has docker's configuration.
  # shellcheck disable=SC2086
  case $cli in
    *nerdctl*) DOCKER_CONFIG=$folder $limit $cli push "$1" ;;
    *) $limit $cli --config "$folder" push "$1" ;;
  esac
}

forget() {
  [ -z "$folder" ] || rm -rf "$folder"
  folder='' learning=''
}

# shellcheck disable=SC2329 # a trap calls it
cleanup() {
  code=${1-$?}
  trap '' HUP INT TERM PIPE
  drop all
  [ -z "$learning" ] || remove "$learning"
  forget
  mark end "$code"
  [ -z "$ticker" ] || kill "$ticker"
} 2>/dev/null

# expect NAME DIFFIDS: what the archive has.
expect() {
  is_ours "$1" || refuse expect "$1"
  for word in $2; do is_digest "$word" || refuse expect "$word"; done
  one_name=$1 names="$names $1" header="$header$1 $2
"
}

# give IMAGE NAME: one that we have told to be here, or have loaded.
give() {
  is_digest "$1" || is_ours "$1" || refuse tag "$1"
  is_name "$2" || refuse tag "$2"
  case " $offered $incoming " in *" $1 "*) ;; *) fail tag "$1 is not there" ;; esac
  put_name "$1" "$2"
  given="$given $1 $2"
}

# converse: obeys one verb after the other, each at its time; in a dry run none that changes anything.
converse() {
  while mark wait "$self"; read -r verb one two; do
    mark work
    case $verb:$stage in
      learn:ask | learn:dry) ;;
      expect:ask | expect:expect | load:expect | tag:ask | tag:load | tag:tag | done:ask | done:load | done:tag) stage=$verb ;;
      learn:* | expect:* | load:* | tag:* | done:*) refuse "$verb" 'has no place here' ;;
    esac
    # shellcheck disable=SC2086
    case $verb in
      learn) learn "$one" $two ;;
      expect) expect "$one" "$two" ;;
      load)
        case " $accept " in *" ${one:--} "*) receive "$one" ;; *) refuse load "$one" ;; esac ;;
      tag) give "$one" "$two" ;;
      'done') finish ;;
    esac
  done
}

# The watch. Nothing in POSIX waits for input or an engine, and for no longer than that; so a second process hears of what
# the first does, and each 10 s of a tick. While the first works, it tells the client that we live; where the first has
# waited for 300 s, the client is gone, and the network has not told us: it ends whoever waits.

# mark wait PIDS|work|end CODE: tells the watch.
mark() { say "$@" >&3; }

# tick: a process of its own. A subshell would hold what its shell has put aside (dash: stdin and stdout above 10), so that
# the session would not end before it; and a signal may be lost in it before it has forgotten the traps of its parent.
tick() {
  # shellcheck disable=SC2016
  exec sh -c 'trap "kill \$!; exit" TERM; while :; do sleep 10 >/dev/null & wait $!; echo tick || exit; done' \
    </dev/null >&3 2>/dev/null 3>&- 4>&- 5<&-
}

watch() {
  quiet=0 state=work
  while read -r word rest; do
    case $word in
      tick)
        [ "$state" = wait ] || { say alive; continue; }
        quiet=$((quiet + 1))
        [ $quiet -ge 30 ] || continue
        # Once: then the first has work, to tidy up, and in a while another process may have the number.
        state=work
        # shellcheck disable=SC2086
        kill $waiting 2>/dev/null ;;
      end) return "$rest" ;;
      *) quiet=0 state=$word waiting=$rest ;;
    esac
  done
}

main() {
  incoming='' learning='' names='' header='' wanted_engine='' ctr='' cli=docker way='command' rootless=''
  offered='' given='' folder='' ticker='' stage=ask one_name=''
  trap cleanup EXIT
  # mksh leaves out the trap of an EXIT that comes out of a trap.
  trap 'trap - EXIT; cleanup 129; exit 129' HUP INT TERM PIPE
  printf '\nlayerferry 1 sh\n' # on a line of its own, whatever a login shell has printed
  inventory
  # shellcheck disable=SC2016
  self=$(exec sh -c 'echo $PPID')
  tick &
  ticker=$!
  converse
}

{ exec 4>&1 5<&0; { exec 3>&1 >&4; main; } | watch; exit; }
# A shell that reads us from its stdin has read on: what stands after us is the client's, and no script.
# shellcheck disable=SC2317
exit 0
