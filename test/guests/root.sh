#!/bin/sh
# root.sh ARCH: makes the root file system of a guest, root.ext4, in the working directory.
set -eu

here=$(dirname "$(readlink -f "$0")")
# What the steps and most tests use. No compiler for i386: its tests are skipped.
packages='systemd-sysv kmod nodejs crun runc podman tini catatonit uidmap lxc mount e2fsprogs xfsprogs btrfs-progs
squashfs-tools erofs-utils fuse2fs squashfuse fuse-overlayfs gcc libc6-dev strace attr procps busybox-static python3-minimal
nftables'

mmdebstrap --quiet --variant=minbase --architectures="$1" --include="$(echo $packages | tr ' ' ,)" \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='mkdir -p "$1/checkout" "$1/usr/lib/modules"' \
  --customize-hook='echo guest >"$1/etc/hostname"; echo 127.0.0.1 localhost guest >"$1/etc/hosts"' \
  --customize-hook='echo containers:1000000000:1000000 | tee -a "$1/etc/subuid" >>"$1/etc/subgid"' \
  --customize-hook="cp '$here/guest.service' \"\$1/etc/systemd/system\"" \
  trixie root.tar "${DEBIAN_MIRROR-http://deb.debian.org/debian}"
# As sparse as it is empty; nothing is mounted for that.
truncate -s 8G root.ext4
mke2fs -q -t ext4 -O ^has_journal -d root.tar root.ext4
rm root.tar
