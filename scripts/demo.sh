#!/usr/bin/env bash
# sudo scripts/demo.sh: sets up what is missing and shows the main job: one mknod, refused, done, and refused for a reason.
set -euo pipefail
cd "$(dirname "$0")/.."

if ((EUID != 0)); then
  echo 'demo: this needs root: sudo scripts/demo.sh' >&2
  exit 1
fi
scripts/setup.sh run
node=node
# An archive has a Node of its own.
[[ ! -x ../../node/bin/node ]] || node=../../node/bin/node
[[ -d node_modules/koffi || -d ../koffi ]] || npm ci --no-audit --no-fund
[[ -e dist/build-id ]] || npm run build

# show TITLE EXPECTED-STATUS ARGUMENT-OF-RUN...
show() {
  local title=$1 expected=$2 status=0 word
  shift 2
  printf '\n\033[1m%s\033[0m\n$ intercede run' "$title"
  for word in "$@"; do
    [[ $word == *[^[:alnum:]_./:=-]* ]] && word="'$word'"
    printf ' %s' "$word"
  done
  printf '\n'
  "$node" bin/intercede.js run "$@" || status=$?
  if ((status != expected)); then
    echo "demo: this ended with status $status instead of $expected: see node bin/intercede.js doctor" >&2
    exit 1
  fi
}

show '1. An unprivileged container may not make a device: the kernel says EPERM' 1 \
  -- mknod null c 1 3
show '2. With Intercede the same call makes /dev/null, owned by the container, and it works' 0 \
  -c mknod -- sh -c 'mknod null c 1 3 && echo gone >null && stat -c "%F %t:%T, mode %a, of %U" null'
show '3. The memory of the host is not for containers: the kernel refuses, Intercede says why' 1 \
  -c mknod -- mknod mem c 1 1
