#!/bin/sh
# configure.sh CONFIGURATION HOST [--watch]: writes the files of the ConfigMap to where the node's kubelet and daemon look for them,
# and with --watch again whenever it changes.
set -eu
configuration=$1
host=$2
# As in the image; tests name others.
intercede=${INTERCEDE-/opt/intercede/bin/intercede}

# Each profile is on top of what the node's runtime calls RuntimeDefault.
profiles() {
  base=$(cat "$configuration/base")
  # The last line may lack its end.
  while read -r name keys || [ -n "$name" ]; do
    case $name in '' | '#'*) continue ;; esac
    options=
    for key in $keys; do options="$options -c $key"; done
    # shellcheck disable=SC2086 # they are words
    "$intercede" flags kubernetes $options --name "$name" --base "$base" --write "$1" >/dev/null || {
      echo "configure.sh: the profile \"$name\" is wrong: $keys" >&2
      exit 1
    }
    echo "profile $name:$options"
  done <"$configuration/profiles"
}

# Nothing takes its place on the node before all of it is good, or a daemon that is started again could not use it. Each file is
# exchanged whole. A profile that is gone keeps its file: Pods may use it.
apply() {
  made=$host/profiles/.next
  config=$host/etc/intercede/.config.yaml
  trap 'rm -rf "$made" "$config"' EXIT
  rm -rf "$made"
  mkdir "$made"
  profiles "$made"
  cp "$configuration/config.yaml" "$config"
  "$intercede" serve --check-config --config "$config" --feed-socket "$host/run/intercede/feed.sock" >/dev/null
  find "$made" -name '*.json' -exec mv -t "$host/profiles" {} +
  mv "$config" "$host/etc/intercede/config.yaml"
}

if [ "${3-}" != --watch ]; then
  # The node keeps what it has while this Pod tries: see node.sh.
  touch "$host/run/intercede/pod"
  apply
  exit
fi
applied=
control=$host/run/intercede/control.sock
# There while the node has what the ConfigMap says, for the readiness probe.
ready=${READY-/tmp/ready}
rm -f "$ready"
while :; do
  # The kubelet replaces all files at once, by this link, a minute after the ConfigMap was changed.
  found=$(readlink "$configuration/..data")
  if [ "$found" = "$applied" ] || ! [ -S "$control" ]; then
    sleep 2
  elif sh "$0" "$configuration" "$host" && "$intercede" reload --control "$control"; then
    applied=$found
    touch "$ready"
  else
    # Why stands in the log of this container; the daemon keeps what it has.
    applied=
    rm -f "$ready"
    sleep "${RETRY_SECONDS-30}"
  fi
done
