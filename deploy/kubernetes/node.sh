#!/bin/sh
# node.sh admit | program HOST | serve | leave: what the DaemonSet does on a node. There the daemon is a service of systemd: a
# Pod that is replaced takes no listener with it, since systemd keeps them, and the service goes on as the next Pod's program.
set -eu
top=/opt/intercede
lease=/run/intercede/pod
units=/run/systemd/system
sockets='intercede.socket intercede-lxc.socket intercede-feed.socket intercede-control.socket'
# Where profiles of the security-profiles-operator may have their listener.
operator=/run/security-profiles-operator
# How long a node waits for the next Pod before it removes the service.
minutes=15

# Refuses a node whose service is not of a DaemonSet, before anything of it is replaced.
admit() {
  [ -d /run/systemd/system ] || return 0
  at=$(systemctl show --property=FragmentPath --value intercede.service)
  case $at in
    '' | "$units"/*) ;;
    *) echo "node.sh: this node has a service of its own, $at: remove it, or keep this DaemonSet from the node" >&2 && exit 1 ;;
  esac
}

# Puts the image's program on the node: all files at once, so that the service never sees files of two versions.
program() {
  host=$1
  mkdir -p "$host/run/intercede"
  touch "$host$lease"
  if diff -rq "$top" "$host$top" >/dev/null 2>&1; then return; fi
  next=$host$top.next
  rm -rf "$next"
  cp --archive "$top" "$next"
  if [ -e "$host$top" ]; then mv --exchange --no-target-directory "$next" "$host$top"; else mv "$next" "$host$top"; fi
  rm -rf "$next"
}

# write NAME: a unit, from the standard input.
write() { cat >"$units/.$1" && mv "$units/.$1" "$units/$1"; }

install() {
  for unit in intercede.service $sockets; do
    sed "s,/usr/local/bin/intercede,$top/bin/intercede," "$top/lib/intercede/deploy/systemd/$unit" | write "$unit"
  done
  write intercede-leave.service <<END
[Unit]
Description=Intercede, removes itself where its DaemonSet has gone

[Service]
Type=oneshot
ExecStart=/bin/sh $top/lib/intercede/deploy/kubernetes/node.sh leave
END
  write intercede-leave.timer <<END
[Unit]
Description=Intercede, looks whether its DaemonSet has gone

[Timer]
OnActiveSec=1min
OnUnitActiveSec=1min
END
  systemctl daemon-reload
}

# Runs in the node's namespaces until the Pod ends, and shows what the service logs.
serve() {
  # The node may have got a service since the Pod came.
  admit
  mkdir -p "$operator"
  ln -sfn /run/intercede/oci.sock "$operator/intercede.sock"
  # Without systemd nobody keeps the listeners.
  [ -d /run/systemd/system ] || exec "$top/bin/intercede" serve --config /etc/intercede/config.yaml
  touch "$lease"
  install
  # The loop below ends where there is no socket. For the service nobody waits here.
  # shellcheck disable=SC2086 # they are words
  systemctl start $sockets intercede-leave.timer
  systemctl start --no-block intercede.service
  # A service that runs goes on as this program. If it cannot, its log says why, and it stays what it is.
  "$top/bin/intercede" reload >/dev/null 2>&1 &
  journalctl --unit=intercede.service --output=cat --lines=0 --follow &
  log=$!
  trap 'kill $log || :; exit 0' TERM INT
  while systemctl --quiet is-active intercede.socket; do
    touch "$lease"
    sleep 30 &
    wait $!
  done
  kill $log
  echo 'node.sh: intercede.socket is no longer active' >&2
  exit 1
}

# Removes all but history, once the last Pod has gone and no container is served.
leave() {
  gone() { [ -z "$(find "$lease" -mmin "-$minutes")" ]; }
  gone || return 0
  # The clock of the node may just have been set: a Pod touches the file again within 30 seconds.
  sleep "${AGAIN_SECONDS-60}"
  listeners=$("$top/bin/intercede" status --format '{listeners}')
  if [ "$listeners" != 0 ] || ! gone; then return 0; fi
  # shellcheck disable=SC2086
  systemctl stop $sockets intercede.service intercede-leave.timer
  for unit in intercede.service $sockets intercede-leave.service intercede-leave.timer; do rm -f "$units/$unit"; done
  systemctl daemon-reload
  rm -rf "$top" /etc/intercede /run/intercede /var/lib/kubelet/seccomp/intercede "$operator/intercede.sock"
}

"$@"
