#!/bin/bash
# layerferry beside the other ways to move an image, on real engines of tests/rig and rate-limited links: tests/bench/run.py
# says what is measured, and how.
#
#   bash tests/bench/run.sh --quick    10 minutes on 2 quiet cores: small images, two links; into build/bench/quick
#   bash tests/bench/run.sh            hours: everything, medians of three; into docs/benchmark
#   bash tests/bench/run.sh --fleet    20 minutes: only a fleet behind one uplink; into build/bench/fleet
#   bash tests/bench/run.sh --help     links, workloads, ways and sizes by hand
#
# Needs Debian, root, python3 (3.11 or later) and a quiet machine. What it installs goes into build/bench/venv (layerferry
# of this checkout, as `pip install` gives it, and matplotlib), onto this machine (zstd, bzip2), and, for the engines, into
# the cache that tests/rig has anyway.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=requirements/venv.sh
. requirements/venv.sh
make_venv build/bench/venv requirements/bench.txt .
PYTHONPATH=tests exec build/bench/venv/bin/python -m bench.run "$@"
