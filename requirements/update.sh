#!/bin/bash
# Locks what layerferry runs with (run.txt), is tested with (dev.txt), measured with (bench.txt) and released with
# (release.txt): exact versions, with the hashes of every file of them, for all platforms and Pythons that
# pyproject.toml allows. Needs uv. Says nothing of where files come from.
#
#   bash requirements/update.sh            changes only what pyproject.toml asks for
#   bash requirements/update.sh --upgrade  takes the newest versions
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # lock FILE ARGUMENTS...
  local file=$1
  shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command 'bash requirements/update.sh' --output-file "$file" "$@" >/dev/null
}

lock requirements/run.txt pyproject.toml "$@"
# The build backend is locked too, so that the tests install the package without a look at anything unlocked.
printf 'hatchling>=1.26\nhatch-fancy-pypi-readme>=25\neditables\n' | lock requirements/dev.txt pyproject.toml --group test --group lint - "$@"
# What tests/bench/run.sh measures with and draws with: the versions of run.txt, and matplotlib.
printf 'hatchling>=1.26\nhatch-fancy-pypi-readme>=25\neditables\nmatplotlib>=3.9\n' |
  lock requirements/bench.txt --constraint requirements/run.txt pyproject.toml - "$@"
# What builds a release has nothing of what it builds. pip is there, since it fetches that.
lock requirements/release.txt --group release --allow-unsafe "$@"
