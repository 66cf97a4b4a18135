# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and lines are split into words
# What is here of layers beyond a chain, in stores that share layers between images.

# answer_loose DIFFID...: those beyond the chain's prefix that some image holds, each with one such image.
answer_loose() {
  shift "$depth"
  missing=$*
  [ "$missing" ] || return 0
  while read -r id layers; do
    left=''
    for want in $missing; do
      case " $layers " in
        *" $want "*)
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
