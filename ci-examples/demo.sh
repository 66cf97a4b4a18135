#!/bin/bash
# layerferry at work, for real: starts two throw-away hosts on this machine, each with its own docker engine, builds an
# image on the one, and pushes it to the other over ssh: once whole, then again with one line changed.
#
#   bash ci-examples/demo.sh
#
# Needs Debian or Ubuntu, root, python3, and the network to install what is missing. Everything but Debian's packages
# lies in one temporary folder, which is removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD

if [ -t 1 ]; then
  bold=$(printf '\033[1m') dim=$(printf '\033[2m') red=$(printf '\033[31m') green=$(printf '\033[32m') off=$(printf '\033[0m')
else
  bold='' dim='' red='' green='' off=''
fi

die() {
  printf '%s%s%s\n' "$red" "$*" "$off" >&2
  exit 1
}
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
command_line() { printf '%s$ %s%s\n' "$dim" "$*" "$off"; }

command -v python3 >/dev/null || die "The demo needs python3, 3.11 or later: install it and try again."
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "The demo needs Python 3.11 or later, not $(python3 -V)."
reason=$(python3 tests/rig check 2>&1) || die "The demo starts real engines, and cannot do so here: ${reason#rig: }"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/layerferry-demo.XXXXXX")
rig() { python3 "$checkout/tests/rig" --state "$work/rig" "$@"; }

clean_up() {
  trap '' INT TERM
  rig down >>"$work/log" 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

began=$(date +%s%N)
seconds() { # seconds START: since then, with one decimal
  local tenths=$((($(date +%s%N) - $1) / 100000000))
  printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

step() { # step TITLE COMMAND...: one line if it works, the end of its output if it does not
  local title=$1 start
  start=$(date +%s%N)
  shift
  printf '  %-58s' "$title"
  if ! "$@" >>"$work/log" 2>&1 </dev/null; then
    printf '%sfailed%s\n\n' "$red" "$off"
    tail -n 15 "$work/log" >&2
    exit 1
  fi
  printf '%s%8s%s\n' "$dim" "$(seconds "$start")" "$off"
}

make_venv() { # what users get: locked dependencies, and layerferry built from this checkout
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv
  fi
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --disable-pip-version-check --require-hashes -r requirements/run.txt
  "$work/venv/bin/pip" install --disable-pip-version-check --no-deps .
}

# The image: this machine's Python, some packages, and an app of two lines. It really runs, and it is about 100 MB.
gather_image() {
  local context=$work/rig/laptop/tmp/app python library
  mkdir -p "$context/runtime" "$context/packages" "$context/app"
  python=$(command -v /usr/bin/python3 || command -v python3)
  library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  # shellcheck disable=SC2046 # one word for each library that the interpreter is linked against
  cp -L --parents $(ldd "$(readlink -f "$python")" | grep -o '/[^ ]*') "$context/runtime"
  (cd / && tar -cf - --exclude=test --exclude=__pycache__ --exclude='config-*' --exclude=site-packages "${library#/}") \
    | tar -xf - -C "$context/runtime"
  cp -L --parents "$(readlink -f "$python")" "$context/runtime"
  cp -r "$work"/venv/lib/python*/site-packages/. "$context/packages"
  printf 'import sys\nprint(f"Hello from the first version, on Python {sys.version.split()[0]}.")\n' >"$context/app/main.py"
  cat >"$context/Dockerfile" <<DOCKERFILE
FROM scratch
COPY runtime /
COPY packages /packages
COPY app /app
CMD ["$(readlink -f "$python")", "/app/main.py"]
DOCKERFILE
}
build() { rig on laptop env DOCKER_BUILDKIT=0 docker build --network none --tag "$1" /tmp/app; }
start_hosts() { rig up this-machine=laptop this-machine=prod; }

printf '%slayerferry%s sends a host only the layers that it lacks. Two hosts, real engines, real ssh.\n' "$bold" "$off"

heading "1. Getting ready"
step "layerferry, in a virtual environment of its own" make_venv
step "two hosts with docker, laptop and prod" start_hosts
export DOCKER_HOST="unix://$work/rig/laptop/run/docker.sock" PATH="$work/rig/ssh/bin:$work/venv/bin:$PATH" HOME="$work"
step "an app for an image" gather_image
step "docker build -t shop:1 (on laptop)" build shop:1
printf '  %slayerferry %s, docker %s%s\n' "$dim" "$(layerferry --version | grep -o '[0-9].*')" \
  "$(ssh prod docker version --format '{{.Server.Version}}')" "$off"

heading "2. The first push: prod has nothing yet"
command_line layerferry push shop:1 prod
layerferry push shop:1 prod

heading "3. One line of the app changes"
sed -i 's/the first version/the second version, which is better/' "$work/rig/laptop/tmp/app/app/main.py"
step "docker build -t shop:2 (on laptop)" build shop:2
command_line layerferry push shop:2 prod
layerferry push shop:2 prod

heading "4. On prod"
command_line ssh prod docker run --rm --network none shop:2
if ssh prod docker run --rm --network none shop:2 2>>"$work/log"; then
  :
else # a machine that is a container itself may not let its containers run
  echo "Containers cannot run on this machine; that one can be created has to do:"
  ssh prod docker create --network none shop:2
fi
here=$(rig on laptop docker image inspect --format '{{.Id}}' shop:2)
there=$(ssh prod docker image inspect --format '{{.Id}}' shop:2)
[ "$here" = "$there" ] || die "shop:2 is $here on laptop, but $there on prod."
printf '%sshop:2 is %s on both.%s\n' "$green" "${there:0:19}…" "$off"

heading "5. Cleaning up"
trap - EXIT
clean_up
if [ -e "$work" ] || grep -q "$work" /proc/mounts; then die "$work is still there"; fi
printf '  All of it took %s, and nothing of it is left.\n' "$(seconds "$began")"
