# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and lines are split into words
# What is here of the images that the client asks for.

# list_ids: sets $ids to every image of the engine.
list_ids() {
  [ "$listed" ] || ids=$("${way}_list")
  listed=yes
}

# find_images: sets $ids to those images of the engine that were asked for, or may keep what was, and to more where it has
# listed all.
find_images() {
  [ -z "$ctr" ] || sift
  [ -z "$listed" ] || return 0
  set -- $roots
  # shellcheck disable=SC2046
  [ -z "$sure" ] || set -- $(say "$asks" | cut -d ' ' -f 1) "$@"
  [ $# = 0 ] || ids=$("${way}_list" "$@")
}

# list_images: sets $images to every image as a line "ID DIFFID DIFFID ...", the newest first. The containerd store takes
# 30 ms for each (docker 28.5), so that of a crowd only the newest are looked at: what is missed is sent.
list_images() {
  list_ids
  [ "$ids" ] || return 0
  crowd='cat'
  [ $store != blob ] || crowd='head -n 200'
  images=$(cut -d ' ' -f 1 <<IDS | uniq | $crowd | "${way}_layers"
$ids
IDS
)
}

is_here() {
  case "
$ids" in *"
$1 "*) ;; *) return 1 ;; esac
}

# named ID: sets $called to an image's names, which are seen to be its now; to none where what dead sessions have left may have
# to go, as it does when names are given.
named() {
  called='' pairs=''
  case $ids in *localhost/layerferry:*) return ;; esac
  [ ! -d "$arrivals" ] || return 0
  called=$(say "$ids" | sed -n "s/^$1 \([^<]\)/\1/p")
  [ ${#called} -lt 9999 ] || called=''
  for one in $called; do pairs="$pairs $1 $one"; done
  confirm $pairs || called=''
}

# confirm IMAGE NAME...: whether each name is its image now, as the engine shows both.
confirm() {
  [ $# -gt 0 ] || return 0
  "${way}_show" "$@" | awk -v all=$# 'NR % 2 { id = $1; next } $1 == id { same += 2 } END { exit same != all }'
}

# answer ID DIFFID...: what is here of one image that was asked for.
answer() {
  asked=$1
  shift
  say "image $asked"
  [ -z "$sure" ] || ! is_here "$asked" || { named "$asked"; say present $called; offered="$offered $asked"; return; }
  [ -z "$ctr" ] || [ "$looked" ] || ask_containerd
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
  [ "$sure" ] || return 0
  case $known in *"blob $1 "*) return ;; esac
  [ "$images" ] || list_images
  answer_chain "$@"
  [ $store = chain ] || answer_loose "$@"
}

# answer_chain DIFFID...: the longest run of its lowest layers that an image has.
answer_chain() {
  depth=0 holder='' need="$1 " rest=$* all=$#
  while read -r id layers; do
    [ "$layers" != "$rest" ] || { holder=$id depth=$all; break; }
    case "$layers " in "$need"*) ;; *) continue ;; esac
    holder=$id depth=0 need=''
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
}

# hear: the next line of the ask, of which $asks gets a line "ID DIFFID DIFFID ..." for each image; or a part of this script.
hear() {
  read -r verb word method || exit 1
  case $verb in
    part) part "$word" "$method" ;;
    image | layer) is_digest "$word" || refuse "$verb" "$word" ;;
    dry-run) stage=dry ;;
    end) ended=yes ;;
  esac
  case $verb in
    image) asks="$asks$line
" line=$word ;;
    layer) line="$line $word" ;;
  esac
}

# need PARTS FUNCTION: parts of this script that few hosts need, which have that function.
need() {
  ! has "$2" || return 0
  say "need $1"
  mark wait "$self"
  until has "$2"; do hear; done
  mark ask
}

# read_ask: hears the ask to its end. Sets $only to the ID of its image where it is one.
read_ask() {
  mark wait "$self"
  until [ "$ended" ]; do hear; done
  mark ask
  only=''
  [ "${asks%?}" ] || only=${line%% *}
  asks=$asks$line
}

# inventory: what is here of the images of the ask. The engine is asked before that comes.
inventory() {
  images='' looked='' roots='' same='' known='' arrivals=${XDG_CACHE_HOME:-${HOME-}/.cache}/layerferry/arrived
  # Where a shell reads us from its stdin, our own last line comes first.
  mark wait "$self"
  while read -r verb wanted_engine space as pin && [ "$verb" != engine ]; do :; done
  mark ask
  [ "$verb" = engine ] || exit 1
  find_engine
  describe
  greet
  # While the ask is still on its way.
  tell_room
  held=''
  [ -z "$ctr" ] || held=$($ctr content ls 2>/dev/null)
  [ $store = blob ] || list_ids
  read_ask
  find_images
  while read -r line; do
    [ "$line" ] && answer $line
  done <<ASKS
$asks
ASKS
  say end
}
