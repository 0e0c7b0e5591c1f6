#!/bin/sh
# kernel.sh ARCH SUITE PACKAGE: makes vmlinuz, initrd.gz and modules.ext4 of a kernel of Debian in the working directory.
set -eu

here=$(dirname "$(readlink -f "$0")")
# apt has a configuration of its own, so nothing of the machine's changes.
mkdir -p apt/lists/partial apt/cache/archives/partial
# Some suites have few packages beside the kernel.
for suite in "$2" trixie; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN_MIRROR-http://deb.debian.org/debian} $suite main"
done | sort -u >apt/sources.list
cat >apt/apt.conf <<EOF
APT::Architecture "$1";
APT::Default-Release "$2";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Dir::Cache "$PWD/apt/cache";
Dir::Etc::SourceList "$PWD/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$PWD/apt/lists";
Dir::State::Status "/dev/null";
EOF
export APT_CONFIG="$PWD/apt/apt.conf"
apt-get -qq update
# Newer kernels are several packages.
needed=$(apt-cache depends --recurse --important "$3" | grep -E '^(user-mode-linux$|linux-(image|binary|modules|base-[0-9]))')
# shellcheck disable=SC2086 # they are words
apt-get -qq download $needed busybox-static
for package in *.deb; do dpkg-deb -x "$package" tree; done

mkdir -p modules/lib
for directory in tree/lib/modules tree/usr/lib/modules tree/usr/lib/uml/modules; do
  [ ! -d "$directory" ] || mv "$directory" modules/lib
done
version=$(ls modules/lib/modules)
depmod -b modules "$version"
# Newer packages have it beside the modules.
mv "$(find tree modules \( -name 'vmlinuz*' -o -name linux.uml \) -type f | head -n 1)" vmlinuz

# The modules by which the disks are found, in their order; crc32c and jbd2 are not named by all versions of ext4. User-mode Linux
# needs none.
mkdir -p initrd/bin initrd/modules initrd/dev initrd/proc initrd/root
cp "$(find tree -path '*/bin/busybox')" initrd/bin
install -m 755 "$here/initrd.sh" initrd/init
number=100
for module in virtio_pci virtio_blk crc32c_generic jbd2 ext4; do
  modprobe -d modules -S "$version" --show-depends "$module" 2>/dev/null || :
done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | while read -r file; do
  number=$((number + 1))
  name=initrd/modules/$number-$(basename "$file" | sed 's/\.ko.*//').ko
  case $file in
  *.xz) xz -dc "$file" >"$name" ;;
  *.zst) zstd -qdc "$file" >"$name" ;;
  *) cp "$file" "$name" ;;
  esac
done
(cd initrd && find . | cpio --quiet -o -H newc) | gzip -1 >initrd.gz
truncate -s 1G modules.ext4
mke2fs -q -t ext4 -O ^has_journal -d modules/lib/modules modules.ext4
rm -rf apt tree modules initrd ./*.deb
