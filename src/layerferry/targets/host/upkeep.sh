# shellcheck shell=sh disable=SC2034,SC2086,SC2154,SC2329 # parts share variables; main.sh and $way lead to what is here
# What names stood for before, and images that are no longer needed: sent where the client wants to know of either.

more=' names prune'

# timely VERB: whether that may be said now.
timely() {
  case $1:$stage in
    resolve:ask | resolve:dry | resolve:load | images:dry | images:done | remove:done) ;;
    keep:ask | keep:load | keep:tag) stage=tag ;;
    *) refuse "$1" 'has no place here' ;;
  esac
}

# late_keep IMAGE NAME: a name for the way back; a throw-away one holds an image until another has been given.
late_keep() {
  timely keep
  ! is_ours "$2" || incoming="$incoming $2"
  give "$1" "$2"
}

# late_resolve NAME...: what they stand for, which may be given names then.
late_resolve() {
  timely resolve
  for name in "$@"; do
    is_name "$name" || refuse resolve "$name"
    shown=$("${way}_show" "$name" 2>/dev/null)
    shown=${shown%%[!0-9a-z:]*}
    if is_digest "$shown"; then
      say "resolved $name $shown"
      offered="$offered $shown"
    else
      # It is not there, if the engine is.
      told=$("${way}_info" 2>/dev/null)
      answers || fail stopped "it does not tell what $name is"
    fi
  done
  say end
}

# late_images REPOSITORY... ID...: the images of these repositories, as the engine writes them, and these images; and what
# containers use.
late_images() {
  timely images
  for word in "$@"; do is_name "$word:x" || refuse images "$word"; done
  ids=$("${way}_list") && [ "$ids" ] || blame engine 'it lists no images'
  names=$(awk -v wanted=" $* " '
    { place = $2; sub(/@.*/, "", place); sub(/:[^:\/]*$/, "", place) }
    $2 != "" && $2 !~ /^<none>/ { name[$1] = name[$1] (++count[$1] % 99 ? " " : "\nnamed " $1 " ") $2 }
    index(wanted, " " $1 " ") || (place != "" && index(wanted, " " place " ")) { ours[$1] }
    END { for (id in ours) print "named", id name[id] }' <<IDS
$ids
IDS
)
  [ -z "$names" ] || {
    say "$names"
    # shellcheck disable=SC2046 # words are IDs
    set -- $(say "$names" | cut -d ' ' -f 2)
    "${way}_ages" "$@" 2>/dev/null
  }
  # What is told here must be all.
  text=$("${way}_uses" 2>&1) || blame engine "it does not tell which images containers use: $text"
  say "$text" | awk '{ for (n = 1; n <= NF; n++) if (!told[$n]++) print "used", $n }'
  say end
}

# late_remove ID NAME...: never by force. An image that a container uses stays, and one that another push has given a name
# since it was told, or taken one.
late_remove() {
  timely remove
  is_digest "$1" || refuse remove "$1"
  for word in "$@"; do case $word in -* | ..* | */..* | *[!A-Za-z0-9._:/@-]*) refuse remove "$word" ;; esac; done
  id=$1 left=$#
  for name in $("${way}_tags" "$id" 2>/dev/null); do
    left=$((left - 1))
    case " $* " in *" $name "*) ;; *) left=0 ;; esac
  done
  text='its names have changed'
  [ $# = 1 ] || shift
  if [ $left = 1 ] && text=$("${way}_discard" "$@" 2>&1); then
    say "removed $id"
  else
    say "stays $id $(printf '%s' "$text" | tr -s '\000-\037' ' ' | cut -c 1-500)"
  fi
  say end
}

# Each way has four functions more:
#
#   ages ID...          lines "created ID TIME"; and "layers ID DIFFID DIFFID..." where `uses` has chain IDs
#   uses                the images of all containers, by ID and by name, or the chain IDs that they stand on; fails where
#                       that is not told
#   tags ID             the names that an image has now
#   discard ID|NAME...  takes an image away that has no name, or just these; not by force

cli_ages() {
  id='{{.ID}} {{.Created}}'
  [ "$engine" != podman ] || id='sha256:{{.ID}} {{.Created.Unix}}'
  $cli image inspect --format "created $id" "$@"
}

# Of an image whose name has moved since, docker tells the ID.
cli_uses() {
  case $engine in
    podman) $cli ps --all --external --no-trunc --format 'sha256:{{.ImageID}} {{.Image}}' ;;
    *) $cli ps --all --no-trunc --format '{{.Image}}' ;;
  esac
}

cli_tags() { $cli image inspect --format '{{range .RepoTags}}{{.}} {{end}}' "$1"; }

# An image goes with its last name. By its ID docker takes none that has two.
cli_discard() { $cli image rm "$@"; }

api_ages() {
  api -f "$at/images/json" | awk '
    BEGIN { RS = "{" }
    match($0, /"Created":[0-9]+/) {
      time = substr($0, RSTART + 10, RLENGTH - 10)
      if (match($0, /"Id":"sha256:[0-9a-f]+"/)) print "created", substr($0, RSTART + 6, 71), time
    }'
}

api_uses() {
  text=$(api -f "$at/containers/json?all=1") || return
  case $text in '['*) ;; *) return 1 ;; esac
  say "$text" | awk '
    BEGIN { RS = "," }
    match($0, /"Image(ID)?":"[^"]*/) { text = substr($0, RSTART, RLENGTH); sub(/^"Image(ID)?":"/, "", text); print text }'
}

api_tags() { "${way}_list" "$1" | cut -d ' ' -f 2; }

api_discard() {
  for name; do
    text=$(api -X DELETE "$at/images/$name" 2>&1)
    case $text in '['*) ;; *) complain "$text"; return 1 ;; esac
  done
}

ctr_ages() {
  for one in "$@"; do
    config=$($cli content get "$one" | tr -d ' \n' | sed -n 's/.*"config":{[^{}]*"digest":"\([^"]*\).*/\1/p')
    is_digest "$config" || continue
    $cli content get "$config" | tr -d ' \n' | awk -v id="$one" '
      { text = text $0 }
      END {
        for (rest = text; match(rest, /"created":"[^"]*/); rest = substr(rest, RSTART + RLENGTH)) {
          time = substr(rest, RSTART + 11, RLENGTH - 11)
          if (time > newest) newest = time
        }
        if (newest != "") print "created", id, newest
        if (!match(text, /"diff_ids":\[[^]]*/)) exit
        text = substr(text, RSTART + 12, RLENGTH - 12)
        gsub(/"/, "", text)
        gsub(/,/, " ", text)
        print "layers", id, text
      }'
  done
}

# A container may have been made of a name that has moved since: what it stands on tells more. Kubernetes' containers are
# containerd's, in the namespace k8s.io.
ctr_uses() {
  text=$($cli containers ls) || { say "$text"; return 1; }
  say "$text" | awk 'NR > 1 { print $2 }'
  for one in $($cli plugins ls | awk '/snapshotter/ && $NF == "ok" { print $2 }'); do
    text=$($cli snapshots --snapshotter "$one" ls) || return
    say "$text" | awk '$3 == "Active" { print $2 }'
  done
}

ctr_tags() { api_tags "$@"; }

ctr_discard() { $cli images rm --sync "$@"; }

nerdctl_ages() {
  native_of() { $cli image inspect --mode native --format '{{.Image.Target.Digest}} {{with .ImageConfig.Created}}{{.Unix}}{{end}}' "$1" | uniq; }
  for one in "$@"; do native_of "$one" | awk 'NF == 2 { print "created", $0 }'; done
}

# It tells the name that a container was made of, and when, and not whether that has moved since.
nerdctl_uses() {
  all=$($cli ps --all --quiet --no-trunc) || return
  [ "$all" ] || return 0
  made=$($cli container inspect --mode native --format '{{.Image}} {{.CreatedAt.Unix}}' $all) || return
  while read -r name time; do
    moved=$($cli image inspect --mode native --format '{{.Image.UpdatedAt.Unix}} {{.Image.Name}}' "$name" 2>/dev/null |
      awk -v name="$name" '$2 == name { print $1; exit }')
    case ${moved:-x}$time in *[!0-9]*) moved=$time ;; esac
    [ "$moved" -lt "$time" ] || { text="a container is of an older $name"; say "$text"; return 1; }
    say "$name"
  done <<MADE
$made
MADE
}

nerdctl_tags() { say "$1" | native '{{.Image.Name}}'; }

nerdctl_discard() { cli_discard "$@"; }
