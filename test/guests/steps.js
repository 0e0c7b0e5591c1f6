// What is tried in a guest if no test is named: each step is a script, with the seconds that it may take at most. Its status 77
// skips it, for the reason in its last line.

/** A daemon, which ends with the script, and a root for containers. */
const served = `
mkdir -p /etc/intercede bundle/rootfs/bin bundle/rootfs/proc bundle/rootfs/dev bundle/rootfs/sys
echo 'profiles: { build: { mknod: true } }' >/etc/intercede/config.yaml
intercede serve >log 2>&1 &
daemon=$!
trap 'kill $daemon || :; wait $daemon || :; cat log' EXIT
until grep -q '"serving"' log; do kill -0 $daemon; sleep 0.5; done
cp /bin/busybox bundle/rootfs/bin/
for name in sh mknod stat; do ln -sf busybox bundle/rootfs/bin/$name; done
chown -R 300000:300000 bundle/rootfs
`

/** As docs/runtimes/crun-runc.md has it: a bundle whose container runs this script. */
const bundleOf = (runtime, script) => `${served}
(cd bundle && rm -f config.json && crun spec)
intercede profile --profile build --runtime ${runtime} --output profile.json
python3 - <<'END'
import json
spec, profile = (json.load(open(name)) for name in ('bundle/config.json', 'profile.json'))
ids = [{'containerID': 0, 'hostID': 300000, 'size': 65536}]
spec['linux'].update(seccomp=profile, uidMappings=ids, gidMappings=ids)
spec['linux']['namespaces'].append({'type': 'user'})
for held in spec['process']['capabilities'].values(): held.append('CAP_MKNOD')
spec['root']['readonly'] = False
spec['process'].update(terminal=False, args=['sh', '-c', '''${script}'''])
json.dump(spec, open('bundle/config.json', 'w'))
END
`
const bundle = (runtime) => `${bundleOf(runtime, 'mknod /null c 1 3 && stat -c %F /null; busybox rm -f /null')}
${runtime} run --bundle bundle demo | tee said
grep -q '^character special file' said`

/** One container is frozen in the middle of its calls, and another one is served meanwhile. */
const frozen = `${bundleOf('crun', 'while [ ! -e /end ]; do mknod /n$$ c 1 3 && busybox rm /n$$ && echo turn || exit 1; done')}
crun run --bundle bundle ice >turns &
container=$!
turns() { wc -l <turns; }
until [ "$(turns)" -gt 5 ]; do kill -0 $container; sleep 0.5; done
crun pause ice
before=$(turns)
mkdir -p other
cp -a bundle other
sed -i 's/while .*done/for i in 1 2 3 4 5; do mknod \\/m c 1 3 \\&\\& busybox rm \\/m || exit 1; done; echo served/' other/bundle/config.json
crun run --bundle other/bundle water | tee said
grep -q '^served' said
echo "the frozen one: $before turns, now $(turns)"
[ "$(turns)" -le $((before + 1)) ]
crun resume ice
until [ "$(turns)" -gt $((before + 5)) ]; do kill -0 $container; sleep 0.5; done
: >bundle/rootfs/end
wait $container`

const podman = `${served}
tar -C bundle/rootfs --owner=0 --group=0 --numeric-owner -c . | podman import --quiet - demo
podman --cgroup-manager cgroupfs run --rm --network none $(intercede flags podman --profile build --write) demo sh -c 'mknod null c 1 3 && stat -c %F null; cat /proc/self/attr/current' | tee said
grep -q '^character special file' said
# AppArmor is on in kernels of Debian.
grep -q '(enforce)' said`

/** Installs the package. What the service says follows at the end: why it does not start, on 5.10. */
const installed = `PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ -e /checkout/intercede.deb ] || { echo 'the package was not made: there is no dpkg-buildpackage, or it is for another architecture'; exit 77; }
trap 'journalctl --quiet --unit intercede --output cat --lines 20' EXIT
mkdir -p /etc/intercede image/bin
dpkg --force-confold -i /checkout/intercede.deb
echo 'profiles: { build: { mknod: true } }' >/etc/intercede/config.yaml
systemctl daemon-reload
systemctl start sockets.target
`

/** It boots with its sockets; a container calls all the time while the daemon is restarted. */
const restarts = `${installed}
systemctl is-active intercede.socket
! systemctl is-active intercede.service
cp /bin/busybox image/bin
for name in sh mknod rm wc true; do ln -sf busybox image/bin/$name; done
tar -C image --owner=0 --group=0 --numeric-owner -c . | podman import --quiet - loop
podman --cgroup-manager cgroupfs run --detach --name loop --network none $(intercede flags podman --profile build --write) loop sh -c '
until [ -e /end ]; do mknod n c 1 3 || exit 1; rm n; echo >>/turns; done' || { systemctl start intercede.service; exit 1; }
turns() { podman exec loop sh -c 'wc -l </turns'; }
until [ "$(turns)" -gt 5 ]; do sleep 1; done
for turn in 1 2 3; do
  systemctl restart intercede.service
  before=$(turns)
  until [ "$(turns)" -gt $((before + 5)) ]; do podman exec loop true; sleep 1; done
  echo "restarted $turn"
done
podman exec loop sh -c ': >/end'
[ "$(podman wait loop)" = 0 ]
podman rm loop`

/**
 * After a soft-reboot the package serves again, and tells what was refused before. The guest's own unit must not power
 * off when it is stopped.
 */
const softReboot = `PATH=/usr/sbin:/usr/bin:/sbin:/bin
own=/run/systemd/system/guest.service.d
try() { podman --cgroup-manager cgroupfs run --rm --name "$1" --network none $(intercede flags podman --profile build --write) once sh -c 'mknod null c 1 3 && stat -c %F null; mknod mem c 1 1'; }
if [ ! -e $own ]; then
  ${installed}
  systemctl restart intercede.service
  cp /bin/busybox image/bin
  for name in sh mknod stat; do ln -sf busybox image/bin/$name; done
  tar -C image --owner=0 --group=0 --numeric-owner -c . | podman import --quiet - once
  try first | grep '^character special file'
  mkdir -p $own
  printf '[Unit]\nSuccessAction=none\nFailureAction=none\n' >$own/soft-reboot.conf
  systemctl daemon-reload
  systemctl show --property MainPID intercede.service >/run/before
  systemctl soft-reboot
  sleep 200
fi
rm -r $own
systemctl daemon-reload
systemctl is-active intercede.socket
try second | grep '^character special file'
[ "$(systemctl show --property MainPID intercede.service)" != "$(cat /run/before)" ]
intercede explain first | tee said
grep -q 'the device 1:1 is not allowed' said`

/** The bundle of a container inside the container, which may open nothing but what every runtime adds. */
const nested = `
modprobe fuse || :
mkdir -p nested/rootfs/bin nested/rootfs/dev nested/rootfs/proc
cp /bin/busybox nested/rootfs/bin/
for name in sh true echo; do ln -sf busybox nested/rootfs/bin/$name; done
cd nested
rm -f config.json
crun spec
python3 - <<'END'
import json
spec = json.load(open('config.json'))
probe = 'true </dev/null && echo null opens; true </dev/fuse && echo fuse opens; true'
spec['process'].update(terminal=False, args=['sh', '-c', probe])
spec['mounts'] = [
    {'destination': '/proc', 'type': 'proc', 'source': 'proc'},
    {'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['nosuid', 'mode=755']},
    {'destination': '/dev/fuse', 'type': 'bind', 'source': '/dev/fuse', 'options': ['bind']},
]
spec['linux'] = {
    'namespaces': [{'type': name} for name in ('pid', 'mount', 'ipc', 'uts')],
    'cgroupsPath': '/nested',
    'resources': {'devices': [{'allow': False, 'access': 'rwm'}]},
}
json.dump(spec, open('config.json', 'w'))
END
cd ..`

/** An image on a loop device, which the container gets. */
const disk = `
modprobe loop || :
truncate -s 64M disk
mkfs.ext4 -qF disk
device=$(losetup --show -f disk)
trap 'losetup -d $device' EXIT
`

/**
 * In the vitest of the checkout. On emulated processors Node starts nearly as fast as on real ones, but what many processes do
 * at once takes ten times as long.
 */
const vitest = (...words) => `cd /checkout
export INTERCEDE_SLOWNESS=10
node node_modules/vitest/vitest.mjs run --maxWorkers=1 ${words.join(' ')}`

export const steps = [
  {
    name: 'doctor',
    seconds: 120,
    script: 'intercede doctor',
  },
  {
    name: 'run: mknod, and one that is refused',
    seconds: 120,
    script: `intercede run -c mknod -- sh -c 'mknod null c 1 3 && ls -l null; mknod mem c 1 1' >said 2>&1 || :
cat said
grep -q '^crw.* 1, *3 .*null' said
grep -q 'the device 1:1 is not allowed' said`,
  },
  {
    name: 'run by runc',
    seconds: 120,
    script: `intercede run --runtime runc -c mknod -- sh -c 'mknod null c 1 3 && ls -l null'`,
  },
  {
    name: 'run: mknod on a tmpfs of the container opens',
    seconds: 120,
    script: `intercede run -c mknod -- sh -c 'mkdir t && mount -t tmpfs t t && cd t && mknod null c 1 3 && : >null' >said 2>&1 && exit
cat said
intercede doctor | grep -q 'boot Linux 6.15' && grep -q 6.15 said && echo 'this kernel cannot, and says so' && exit 77
exit 1`,
  },
  {
    name: 'run: sysinfo, setxattr',
    seconds: 120,
    script: `intercede run --memory 100m -c sysinfo -c setxattr -- sh -c 'mkdir d; setfattr -n trusted.overlay.opaque -v y d && echo set; busybox free -k' | tee said
grep -q '^set' said
grep -q 'Mem: *102400' said`,
  },
  {
    name: 'run: chrt of itself, and of another process',
    seconds: 120,
    script: `intercede run -c sched_setscheduler -- sh -c '
chrt -f 1 true && echo itself; sleep 100 & chrt -f -p 1 $! && chrt -p $!' >said 2>&1 && cat said && exit
cat said
grep -q '^itself' said && grep -q 'use Linux 6.11' said && echo 'this kernel can do the first only, and says so' && exit 77
exit 1`,
  },
  {
    name: 'run: a hard limit is raised, and one above the list is not',
    seconds: 120,
    script: `intercede run -c rlimits -c rlimits.allowed=nofile=1048576 -- sh -c '
ulimit -n 1000; ulimit -n 1048576 && ulimit -n; ulimit -n 1048577' >said 2>&1 || :
cat said
grep -q '^1048576' said
grep -q 'above the highest that the policy allows' said`,
  },
  ...['false', 'true'].map((shift) => ({
    name: `run: mount ext4 and unmount it, 50 times, with mount.shift=${shift}`,
    seconds: 1800,
    // The calls of mount(8) and umount(8) in one program: to start two for each turn takes longer in a guest than all else.
    script: `${disk}
intercede run --device $device -c mount -c mount.allowed=ext4 -c mount.shift=${shift} -- python3 -c "
import ctypes, os, time
libc, start = ctypes.CDLL(None, use_errno=True), time.time()
def call(number, *words):
    result = libc.syscall(number, *words)
    if result < 0: raise OSError(ctypes.get_errno(), number)
    return result
fsopen, fsconfig, fsmount, move_mount = 430, 431, 432, 429
for turn in range(1, 51):
    context = call(fsopen, b'ext4', 1)
    call(fsconfig, context, 1, b'source', b'$device', 0)
    call(fsconfig, context, 6, None, None, 0)
    tree = call(fsmount, context, 1, 0)
    call(move_mount, tree, b'', -100, b'/mnt', 4)
    os.close(tree)
    os.close(context)
    if libc.umount2(b'/mnt', 0): raise OSError(ctypes.get_errno(), 'umount')
    if turn % 5 == 0: print(turn, round(time.time() - start), 's', flush=True)
"
! grep ' /mnt ' /proc/self/mountinfo`,
  })),
  {
    name: 'run: mount ext4 and unmount it by mount(8) and umount(8), 10 times',
    seconds: 900,
    script: `${disk}
intercede run --device $device -c mount -c mount.allowed=ext4 -- sh -ec "for i in \\$(seq 10); do mount -t ext4 $device /mnt; umount /mnt; echo \\$i; done"`,
  },
  {
    name: 'run: mount.allowed=tmpfs, and a node there',
    seconds: 120,
    script: `intercede run -c mknod -c mount -c mount.allowed=tmpfs -- sh -ec 'mount -t tmpfs t /mnt; mknod /mnt/null c 1 3; : >/mnt/null; umount /mnt'`,
  },
  {
    name: 'run: mount vfat, f2fs, ntfs3, exfat, and ext4 with quotas',
    seconds: 900,
    // Without shift their files are nobody's; exfat cannot be shifted on 6.1.
    script: `modprobe loop || :
trap 'losetup -D' EXIT
for way in vfat=true f2fs=true ntfs3=true exfat=false ext4=true; do
  type=\${way%=*}
  # Debian's 6.1 has no ntfs3.
  modprobe $type || { [ $type = ntfs3 ] && continue; }
  truncate -s 128M disk-$type
  case $type in
  ntfs3) mkfs.ntfs -qF disk-$type >/dev/null ;;
  ext4) mkfs.ext4 -qF -O quota disk-$type ;;
  *) mkfs.$type disk-$type >/dev/null ;;
  esac
  device=$(losetup --show -f disk-$type)
  intercede run --device $device -c mount -c mount.allowed=$type -c mount.shift=\${way#*=} -- sh -ec "
    mount -t $type $device /mnt; stat -c '$type %u:%g:%a' /mnt; [ $type = exfat ] || echo x >/mnt/f; umount /mnt"
done`,
  },
  {
    name: 'run: mount.fuse',
    seconds: 300,
    script: `modprobe fuse || :
${disk}
intercede run --device /dev/fuse --device $device -c mount -c mount.fuse=ext4=fuse2fs -- sh -ec "mount -t ext4 -o ro $device /mnt; grep ' /mnt ' /proc/mounts; umount /mnt" | tee said
grep -q ' fuse' said`,
  },
  ...['crun', 'runc'].map((runtime) => ({
    name: `run: a device is denied to a container of ${runtime} in the container`,
    seconds: 300,
    script: `${nested}
intercede run --device /dev/fuse --bind $PWD/nested:$PWD/nested:ro -c bpf -c bpf.devices -- sh -ec "
  mount -t cgroup2 none /sys/fs/cgroup; cp -a $PWD/nested /root/nested; cd /root/nested; touch empty
  : </dev/fuse; echo outside opens; ${runtime} run probe <empty" >said 2>&1 || :
cat said
grep -q '^outside opens' said
grep -q '^null opens' said
! grep -q '^fuse opens' said`,
  })),
  { name: 'serve: crun', seconds: 300, script: bundle('crun') },
  { name: 'serve: runc', seconds: 300, script: bundle('runc') },
  { name: 'serve: podman', seconds: 600, script: podman },
  { name: 'serve: another container is served while one is frozen', seconds: 300, script: frozen },
  { name: 'the package: sockets, and three restarts under load', seconds: 900, script: restarts },
  { name: 'the package: a soft-reboot', seconds: 900, script: softReboot },
]

/** The step of a test file. */
export const stepOf = (file, seconds) => ({ name: file, seconds, script: vitest(file) })
