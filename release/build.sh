#!/bin/bash
# Builds a release into build/release: the wheel and the sdist, layerferry.pyz, the executable for Linux x86_64, the
# container image's context, an SBOM each, and SHA256SUMS. The same commit gives the same bytes.
#
#   bash release/build.sh
#
# Needs Linux x86_64 with Debian's apt, dpkg-dev, patch and debian-archive-keyring, Python 3.11, and the network. What it
# fetches is named by hash in requirements/, or signed by Debian; the interpreter is kept in a cache by its recipe
# (LAYERFERRY_RELEASE_CACHE), and a release is built without it: --fresh.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=requirements/venv.sh
. requirements/venv.sh
out=build/release work=build/release-work
cache=${LAYERFERRY_RELEASE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layerferry-release}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH PIP_DISABLE_PIP_VERSION_CHECK=1 LC_ALL=C TZ=UTC PYTHONHASHSEED=0
umask 022
mkdir -p "$cache" "$work"
exec 9>"$cache/lock"
flock 9

make_interpreter() {
  local recipe zig
  recipe=$(cat release/executable/* requirements/release.txt | sha256sum | cut -c1-16)
  interpreter=$cache/interpreter-$recipe
  [ "${1:-}" != --fresh ] || rm -rf "$interpreter"
  if [ ! -d "$interpreter" ]; then
    rm -rf "$interpreter.new"
    zig=$("$tools/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
    mkdir "$interpreter.new"
    bash release/executable/build.sh "$zig" "$interpreter.new" >"$cache/interpreter.log" 2>&1 </dev/null ||
      { tail -n 20 "$cache/interpreter.log" >&2 && exit 1; }
    mv "$interpreter.new" "$interpreter"
  fi
}

make_wheels() { # wheels/all and wheels/native, of what requirements/run.txt locks, and layerferry's own
  local want version machine
  want=$(cat requirements/run.txt requirements/release.txt "$0" | sha256sum | cut -c1-16)
  wheels=$cache/wheels-$want
  if [ ! -d "$wheels" ]; then
    rm -rf "$wheels.new"
    fetch 3.11 x86_64 "$wheels.new/all" -r requirements/run.txt
    awk '/^[^ #]/ { wanted = /^(pydantic-core|zstandard)==/ } wanted' requirements/run.txt >"$work/native.txt"
    for version in 3.11 3.12 3.13 3.14; do
      for machine in x86_64 aarch64; do
        fetch "$version" "$machine" "$wheels.new/native" -r "$work/native.txt"
      done
    done
    mv "$wheels.new" "$wheels"
  fi
}

fetch() { # fetch VERSION MACHINE FOLDER ARGUMENTS...: wheels of what is locked, for a glibc of 2.28 at most
  local version=$1 machine=$2 folder=$3
  shift 3
  "$tools/bin/pip" download --quiet --require-hashes --no-deps --only-binary=:all: --implementation cp \
    --python-version "$version" --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
    --platform "manylinux2014_$machine" --dest "$folder" "$@"
}

make_sboms() { # CycloneDX, of the lock file; the executable holds Debian's libraries too
  grep -v "sys_platform == 'win32'" requirements/run.txt >"$work/linux.txt"
  "$tools/bin/cyclonedx-py" requirements "$work/linux.txt" --pyproject pyproject.toml --output-reproducible --of JSON \
    --sv 1.6 --output-file "$out/layerferry.pyz.cdx.json" 2>"$work/sbom.log" || { cat "$work/sbom.log" && exit 1; }
  "$tools/bin/python" release/sbom.py "$out/layerferry.pyz.cdx.json" "$interpreter/versions" >"$out/layerferry.cdx.json"
}

tools=$cache/tools
make_venv "$tools" requirements/release.txt
make_interpreter "$@"
make_wheels
rm -rf "$out" && mkdir -p "$out"
"$tools/bin/python" -m build --no-isolation --outdir "$out" . >"$work/build.log" 2>&1 || { cat "$work/build.log" && exit 1; }
rm -rf "$work/wheels" && cp -R "$wheels" "$work/wheels" && cp "$out"/*.whl "$work/wheels/all/"
# The interpreter with the sources of the standard library at its end makes the archives.
"$tools/bin/python" release/bundle/zip_file.py "$interpreter/lib" release "$interpreter/python" "$work/python"
"$work/python" "$interpreter" "$work/wheels" "$out"
make_sboms
cp release/Containerfile "$out/"
(cd "$out" && sha256sum -- * >SHA256SUMS)
cat "$out/SHA256SUMS"
