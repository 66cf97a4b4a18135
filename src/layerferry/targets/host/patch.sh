# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables
# Patches of layers: the client's program, run by python3, tells what the files of older images are, and expands a recipe.

# prepare PROGRAM: takes what patching.sh and the target's program are, as base64 of what zlib made of both. It tells
# something where python3 does, and reads the layers.
prepare() {
  case $1 in '' | *[!A-Za-z0-9+/=]*) refuse program ;; esac
  program=$1 reader=''
  text=$(unpack 'sys.stdout.write(both[0].decode())' 2>/dev/null)
  { [ "$text" ] && eval "$text" && find_reader; } || program=''
  say end
}

# unpack STATEMENT WORD...: lets python3 do something with $program.
unpack() {
  does=$1
  shift
  $reader python3 -I -c "import base64,sys,zlib;both=zlib.decompress(base64.b64decode(sys.argv.pop(1))).split(b'\0');$does" "$program" "$@"
}
