#!/bin/sh
# root.sh ARCH: makes the root file system of a guest, root.ext4, in the working directory.
set -eu

here=$(dirname "$(readlink -f "$0")")
# What the steps and most tests use. No compiler for i386: its tests are skipped.
packages='systemd-sysv kmod nodejs crun runc podman tini catatonit uidmap lxc mount e2fsprogs xfsprogs btrfs-progs
squashfs-tools erofs-utils dosfstools exfatprogs f2fs-tools ntfs-3g fuse2fs squashfuse fuse-overlayfs gcc libc6-dev strace attr
procps busybox-static python3-minimal nftables apparmor'
variant=minbase
if [ "$1" != "$(dpkg --print-architecture)" ]; then
  # Nothing of another architecture runs here, so no package is configured: these are the ones that are always there, and the hook
  # below does what the steps need of their scripts.
  variant=extract
  packages="$packages base-files base-passwd bash coreutils dash debianutils diffutils findutils grep gzip hostname
  init-system-helpers libc-bin login mawk ncurses-bin passwd perl-base sed sysvinit-utils tar util-linux netbase libpam-runtime"
fi

cat >hook.sh <<EOF
set -eu
cd "\$1"
mkdir -p checkout usr/lib/modules etc/systemd/system
echo guest >etc/hostname
echo 127.0.0.1 localhost guest >etc/hosts
[ -e etc/passwd ] || for name in passwd group; do cp usr/share/base-passwd/\$name.master etc/\$name; done
[ -e usr/bin/awk ] || [ ! -e usr/bin/mawk ] || ln -s mawk usr/bin/awk
echo containers:1000000000:1000000 | tee -a etc/subuid >>etc/subgid
cp '$here/guest.service' etc/systemd/system
EOF
[ "$variant" = extract ] && hook=extract || hook=customize

mmdebstrap --quiet --variant=$variant --architectures="$1" --include="$(echo $packages | tr ' ' ,)" \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --$hook-hook="sh '$PWD/hook.sh' \"\$1\"" \
  trixie root.tar "${DEBIAN_MIRROR-http://deb.debian.org/debian}"
# As sparse as it is empty; nothing is mounted for that.
truncate -s 8G root.ext4
mke2fs -q -t ext4 -O ^has_journal -d root.tar root.ext4
rm root.tar hook.sh
