#!/bin/bash
# make_venv FOLDER LOCK [PROJECT]: a virtual environment with exactly what the file LOCK has, and the project of a folder
# as it stands there. It is made anew where one of them, or the Python, is another. For other scripts to source.

make_venv() {
  local folder=$1 lock=$2 project=${3:-} want pip
  want="$(python3 -V) $(cat "$lock" ${project:+"$project/pyproject.toml"} | sha256sum)"
  if [ "$(cat "$folder/.made-from" 2>/dev/null)" != "$want" ]; then
    pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
    rm -rf "$folder" && python3 -m venv "$folder" && "${pip[@]}" --require-hashes -r "$lock" || return
    [ -z "$project" ] || "${pip[@]}" --no-deps --no-build-isolation --editable "$project" || return
    printf '%s\n' "$want" >"$folder/.made-from"
  fi
}
