#!/bin/bash
# layerferry beside the other ways to move an image, on real engines of tests/rig and rate-limited links: tests/bench/run.py
# says what is measured, and how.
#
#   bash tests/bench/run.sh --quick    10 minutes on 2 quiet cores: small images, two links; into build/bench/quick
#   bash tests/bench/run.sh            hours: everything, medians of three; into docs/benchmark
#   bash tests/bench/run.sh --help     links, workloads, ways and sizes by hand
#
# Needs Debian, root, python3 (3.11 or later) and a quiet machine. What it installs goes into build/bench/venv (layerferry
# of this checkout, as `pip install` gives it, and matplotlib), onto this machine (zstd, bzip2), and, for the engines, into
# the cache that tests/rig has anyway.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=build/bench/venv
want="$(python3 -V) $(cat requirements/bench.txt pyproject.toml | sha256sum)"
if [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$want" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  printf '%s\n' "$want" >"$venv/.made-from"
fi
PYTHONPATH=tests exec "$venv/bin/python" -m bench.run "$@"
