#!/bin/bash
# Builds the interpreter of the executable: Debian's static libpython and static libraries, linked by zig against the
# symbols of an old glibc, so that the result runs on all that are newer. No compiler of this machine takes part.
#
#   bash release/executable/build.sh ZIG FOLDER
#
# FOLDER gets `python` (main.c, which wants an archive at its end), `libgcc_s.so.1`, `lib` (the standard library's
# sources) and `versions` (Debian's packages, one a line). Needs apt-get, dpkg-deb and dpkg-source of any Debian or
# Ubuntu, and patch; the packages come from the suite below whatever this machine runs, signed by Debian's key.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
zig=$1 folder=$2
suite=bookworm python=3.11 glibc=2.28
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages="libpython$python-dev libpython$python-stdlib libpython$python-minimal libssl-dev zlib1g-dev libexpat1-dev
  liblzma-dev libbz2-dev libbluetooth-dev libffi-dev"
work=$(mktemp -d "${TMPDIR:-/tmp}/layerferry-interpreter.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/lists/partial "$work"/apt/cache/archives/partial "$work"/{debs,root,source,objects}
: "${ZIG_GLOBAL_CACHE_DIR:=$work/zig}"
export ZIG_GLOBAL_CACHE_DIR ZIG_LOCAL_CACHE_DIR=$work/zig APT_CONFIG=$work/apt/apt.conf LC_ALL=C

for part in "debian $suite" "debian-security $suite-security"; do
  for kind in deb deb-src; do
    printf '%s [signed-by=%s] http://deb.debian.org/%s main\n' "$kind" "$keyring" "$part"
  done
done >"$work/apt/sources.list"
: >"$work/apt/status"
cat >"$APT_CONFIG" <<END
Dir::State "$work/apt"; Dir::State::status "$work/apt/status"; Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache"; Dir::Etc::sourcelist "$work/apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Sandbox::User "$(id -un)"; Acquire::Languages "none";
Acquire::Retries "3";
END

fetch_source() { # of the version that libpython has, or, while the archive lacks it, of the one before
  local version
  for version in $(apt-cache showsrc --only-source "python$python" | sed -n 's/^Version: //p' | sort -Vru); do
    (cd "$work/source" && apt-get source --download-only "python$python=$version" && dpkg-source -x ./*.dsc tree) && return
    rm -rf "$work"/source/*
  done
  return 1
}

apt-get update
# shellcheck disable=SC2086 # a list of packages
(cd "$work/debs" && apt-get download $packages)
fetch_source
# shellcheck disable=SC2016 # dpkg-deb's own variables
for package in "$work"/debs/*.deb; do
  dpkg-deb -x "$package" "$work/root"
  dpkg-deb -W --showformat='${Package} ${Version}\n' "$package"
done >"$work/versions"

include=$work/root/usr/include lib=$work/root/usr/lib modules=$work/source/tree/Modules
decimal=$modules/_decimal unwind=$(dirname "$zig")/lib/libunwind
flags="-target x86_64-linux-gnu.$glibc -O2 -g0 -fPIC -fno-sanitize=all -ffile-prefix-map=$work=."
core="$flags -fwrapv -fno-strict-aliasing -DNDEBUG -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DPy_BUILD_CORE_BUILTIN
  -I$include/python$python -I$include/python$python/internal -I$include -I$include/x86_64-linux-gnu/python$python
  -I$include/x86_64-linux-gnu -I$modules -DCONFIG_64=1 -DANSI=1 -DHAVE_UINT128_T=1 -I$decimal/libmpdec"
unwinder="$flags -funwind-tables -DNDEBUG -D_LIBUNWIND_IS_NATIVE_ONLY -I$unwind/include"

compile() { # compile OBJECT FLAGS SOURCE: a line for xargs
  printf '%s cc %s -c %s -o %s/objects/%s.o\n' "$zig" "$(printf %s "$2" | tr '\n' ' ')" "$3" "$work" "$1"
}
{
  for name in _bz2module _contextvarsmodule _hashopenssl _json _lzmamodule _queuemodule _ssl _typingmodule mmapmodule \
    resource termios _decimal/_decimal; do
    compile "py-$(basename "$name")" "$core" "$modules/$name.c"
  done
  for name in _ctypes callbacks callproc cfield stgdict; do
    compile "py-ctypes-$name" "$core -DHAVE_FFI_PREP_CIF_VAR=1 -DHAVE_FFI_PREP_CLOSURE_LOC=1 -DHAVE_FFI_CLOSURE_ALLOC=1" \
      "$modules/_ctypes/$name.c"
  done
  for name in basearith constants context convolute crt difradix2 fnt fourstep io mpalloc mpdecimal numbertheory \
    sixstep transpose mpsignal; do
    compile "py-mpd-$name" "$core" "$decimal/libmpdec/$name.c"
  done
  compile py-main "$core" "$here/main.c"
  compile py-newer_glibc "$flags" "$here/newer_glibc.c"
  for name in UnwindLevel1.c UnwindLevel1-gcc-ext.c UnwindRegistersSave.S UnwindRegistersRestore.S; do
    compile "unwind-${name%.*}" "$unwinder -fexceptions" "$unwind/src/$name"
  done
  compile unwind-libunwind "$unwinder -std=c++17 -fno-exceptions -fno-rtti" "$unwind/src/libunwind.cpp"
} | xargs -P "$(nproc)" -I '{}' sh -c '{}'

archive=$(echo "$lib"/python$python/config-*/libpython$python-pic.a) libraries=$lib/x86_64-linux-gnu
mkdir -p "$folder"
"$zig" cc -target "x86_64-linux-gnu.$glibc" -O2 -pie -s -rdynamic "$work"/objects/py-*.o -Wl,--whole-archive "$archive" \
  -Wl,--no-whole-archive "$libraries"/lib{ssl,crypto,z,expat,lzma,bz2,ffi_pic}.a -lm -lpthread -ldl -lutil -o "$folder/python"
"$zig" cc -target "x86_64-linux-gnu.$glibc" -O2 -s -shared -Wl,-soname,libgcc_s.so.1 \
  -Wl,--version-script="$here/libgcc_s.map" "$work"/objects/unwind-*.o -o "$folder/libgcc_s.so.1"
cp -R "$lib/python$python" "$folder/lib"
cp "$work/versions" "$folder/versions"
