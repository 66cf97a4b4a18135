#!/bin/bash
# All of layerferry's checks: ruff, shellcheck, mypy, then the tests, with real engines where they can run (Linux,
# root). Needs python3 (3.11 or later) and, the first time, the network. Arguments go to pytest:
#
#   bash tests/run.sh                      everything but the long suite
#   bash tests/run.sh tests/unit -x        whatever pytest understands
#   bash tests/run.sh --slow               the long suite too
#
# What it installs goes into build/venv (LAYERFERRY_TEST_VENV), the Debian suites of the engines into a cache
# (LAYERFERRY_RIG_CACHE), and, where it runs as root, Debian packages onto this machine. All of it is installed
# beforehand for all tests; for those of some paths an engine is when the first of them asks for it. tests/unit needs
# nothing but python3. Where no more than three of all tests fail, they run once more, alone; the first failure stays told.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=requirements/venv.sh
. requirements/venv.sh
venv=${LAYERFERRY_TEST_VENV:-build/venv}
python=$venv/bin/python
log=$(mktemp "${TMPDIR:-/tmp}/layerferry-run.XXXXXX")
trap 'rm -f "$log"' EXIT

die() {
  printf 'tests/run.sh: %s\n' "$*" >&2
  exit 1
}

step() { # step TITLE COMMAND...: one line when it works, all of its output when it does not
  local title=$1 began=$SECONDS
  shift
  printf '%-34s' "$title"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    printf 'failed after %d s\n\n' $((SECONDS - began))
    cat "$log"
    exit 1
  fi
  printf '%3d s\n' $((SECONDS - began))
}

apt_install() {
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

lint_shell() { # every script, by its name or by its first line
  { find .ci ci-examples release requirements src tests -name '*.sh'; grep -rlE '^#!.*[/ ](ba|da)?sh$' .ci; } |
    sort -u | xargs "$venv/bin/shellcheck" -- || return
  "$python" -c 'from layerferry.targets.host import script; print(script.assembled((*script.UPKEEP, *script.ON_NODES)), end="")' |
    "$venv/bin/shellcheck" - # its parts lie apart
}

preparation() { # preparation ARGUMENT...: what has to be installed beforehand for the paths among pytest's arguments
  local path wanted=engines
  for path in "$@"; do
    path=${path%%::*} path=${path%/}
    case $path in
      tests | tests/engines | .) wanted=engines && break ;;
      tests/unit | tests/unit/*) [ $wanted = tools ] || wanted=nothing ;;
      -*) ;;
      *) [ ! -e "$path" ] || wanted=tools ;;
    esac
  done
  echo $wanted
}

few_failed() { # up to three of all tests: each engine has races of its own, and more than that is no chance
  [ "$("$python" -c 'import json; print(len(json.load(open(".pytest_cache/v/cache/lastfailed"))))')" -le 3 ]
}

command -v python3 >/dev/null || die "needs python3, 3.11 or later"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "needs Python 3.11 or later, not $(python3 -V)"
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  [ "$(id -u)" = 0 ] || die "python3 cannot make virtual environments: install Debian's package python3-venv"
  step "installing python3-venv" apt_install python3-venv
fi

step "locked dependencies" make_venv "$venv" requirements/dev.txt .
step "ruff check" "$python" -m ruff check
step "ruff format" "$python" -m ruff format --check
step "shellcheck" lint_shell
step "mypy" env MYPYPATH=release:src:tests MYPY_CACHE_DIR="$venv/mypy-cache" "$python" -m mypy --explicit-package-bases
prepared=$(preparation "$@")
if [ "$prepared" != nothing ] && "$python" tests/rig check 2>/dev/null; then
  case $prepared in
    engines) step "engines for the tests" "$python" tests/rig install ;;
    tools) step "tools for the tests" "$python" tests/rig tools ;;
  esac
fi
rm -f "$log"
# Each worker has a rig of its own, and waits for engines a third of its time: there are two for each core, up to six.
# A file's tests stay together, since they share engines; conftest.py says which go first.
cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
failed=0
"$python" -m pytest --numprocesses "$((cores < 3 ? 2 * cores : 6))" --dist loadfile --no-loadscope-reorder "$@" || failed=$?
[ $failed = 1 ] && [ $# = 0 ] && few_failed || exit $failed
printf '\ntests/run.sh: what failed runs once more, alone\n'
"$python" -m pytest --last-failed --last-failed-no-failures none
printf 'tests/run.sh: it passes alone. What is above fails by chance, and is to be mended\n'
