# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $cli is words
# The way to containerd through `ctr`, which knows blobs and leaves the rest to us.

ctr_probe() { told=$(ctr_info 2>/dev/null); }

ctr_info() {
  on=''
  is_sure || on=$($cli plugins ls | awk '/snapshotter/ && $3 ~ "/" { print $3; exit }')
  $cli version | awk -v on="${on:-$(uname -sm)}" '/^Server/ { there = 1 }
    there && $1 == "Version:" { sub(/^v/, "", $2); sub(" ", "/", on); print ($2 == "" ? "unknown" : $2), on; exit }'
}

# `ours` is a line for each name; else those that name one of these blobs.
ctr_list() {
  case ${1-} in
    ours) $cli images ls -q ;;
    *) $cli images ls ${1+$(printf 'target.digest==%s\n' "$@")} | awk 'NR > 1 { print $3, $1 }' ;;
  esac
}

# Of those that are complete.
ctr_layers() {
  while read -r name; do
    manifest=$($cli images check "name==$name" 2>/dev/null | awk '$4 == "complete" { print $3 }')
    [ "$manifest" ] || continue
    config=$($cli content get "$manifest" | tr -d ' \n' | sed 's/.*"config":{[^{}]*"digest":"\([^"]*\).*/\1/')
    say "$manifest" "$($cli content get "$config" | tr -d ' \n' | sed 's/.*"diff_ids":\[\([^]]*\).*/\1/; s/"//g; s/,/ /g')"
  done
}

ctr_show() {
  for name; do
    case $name in sha256:*) say "$name" ;; *) $cli images ls "name==$name" | awk 'NR > 1 { print $3 }' ;; esac
  done
}

# It unpacks what it imports, so that the first start need not: with the snapshotter that images here have, which may be the
# node's own (k3s --snapshotter). ctr that is killed leaves a lease for a day; at the end of its input it
# leaves nothing.
ctr_load() {
  trap '' HUP INT
  exec $cli images import $options -
}

ctr_tag() {
  case $1 in sha256:*) by=target.digest ;; *) by=name ;; esac
  found=$($cli images ls "$by==$1" "name==$2" | awk -v name="$2" -v id="$1" '
    NR == 1 { next }
    $1 == name { old = $3; next }
    { from = $1; id = $3 }
    END { if (id == old) print name; else print from }')
  case $found in "$2") ;; '') say "$1 is not there"; return 1 ;; *) $cli images tag --force "$found" "$2" ;; esac
}

# What Kubernetes' part of containerd has named "sha256:..." because of the throw-away name goes, too, where nothing else
# came of the load.
ctr_remove() {
  name=$1 more=''
  [ $# = 1 ] || more=$(
    digest=$($cli images ls "name==$name" | awk 'NR > 1 { print $3 }')
    say "$before" end
    [ -z "$digest" ] || $cli images ls "target.digest==$digest"
  )
  more=$(say "$more" | awk -v name="$name" '
    $1 == "end" || $1 == "REF" { listed = 1; next }
    !listed { old[$1]; next }
    $1 == name { next }
    /^sha256:/ { if (!($1 in old)) all = all " " $1; next }
    { all = ""; exit }
    END { print all }')
  $cli images rm ${2:+--sync} "$name" $more
}

# containerd tells its blobs.
ctr_push() { return 1; }
