#!/bin/sh
# prepare.sh DIRECTORY: fetches and builds in it what `npm run suites` runs: the sources of coreutils and util-linux as
# Debian has them, and its stress-ng. It has a configuration of apt of its own, so nothing of the machine's changes, and does
# nothing where all of it is there.
set -e
[ "$#" = 1 ] || { echo 'usage: prepare.sh DIRECTORY' >&2; exit 2; }
mkdir -p "$1"
cd "$1"
[ ! -e ready ] || exit 0

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p apt/lists/partial apt/cache/archives/partial
for type in deb deb-src; do echo "$type http://deb.debian.org/debian $suite main"; done >apt/sources.list
cat >apt/apt.conf <<EOF
Dir::State::Lists "$PWD/apt/lists";
Dir::Cache "$PWD/apt/cache";
Dir::Etc::SourceList "$PWD/apt/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
EOF
export APT_CONFIG="$PWD/apt/apt.conf"
apt-get -q update
rm -rf coreutils* util-linux* stress-ng*
apt-get -q --download-only source coreutils util-linux
apt-get -q download stress-ng libipsec-mb2 libjudydebian1 libsctp1

for name in coreutils util-linux; do
  mkdir "$name"
  tar -xf "$name"_*.orig.tar.xz -C "$name" --strip-components 1
  ls "$name"_*.dsc | sed 's/.*_\(.*\)\.dsc/\1/' >"$name.version"
done
mkdir stress-ng
for package in *.deb; do dpkg-deb -x "$package" stress-ng; done
dpkg-deb -f stress-ng_*.deb Version >stress-ng.version

without='--disable-nls --without-systemd --without-python --disable-liblastlog2 --disable-bash-completion --disable-makeinstall-chown'
(cd coreutils && FORCE_UNSAFE_CONFIGURE=1 ./configure -q --disable-nls --without-selinux --without-openssl && make -s -j "$(nproc)")
(cd util-linux && ./configure -q $without && make -s -j "$(nproc)" && make -s check-programs)
touch ready
