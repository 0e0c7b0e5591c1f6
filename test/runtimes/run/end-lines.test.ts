import { describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = unable() ?? missing('setfattr', 'busybox')
const KEYS = ['mknod', 'mount', 'mount.allowed=ext4,tmpfs', 'setxattr', 'bpf', 'bpf.devices'].flatMap((key) => [
  '-c',
  key,
])
const OLD = 'LIBMOUNT_FORCE_MOUNT2=always'
const FORCED =
  /^umount2 left to the kernel: a container can use umount -f only on a file system that it mounted without intercede; use umount or umount -l$/
const TIMES = /^CALL left to the kernel: the kernel keeps the access times .*; set them when you mount the file system$/
const REMOUNT =
  /^CALL left to the kernel: a container can change only a file system that it mounted without intercede; for ro, nosuid, noexec of one mount use remount,bind/
const of = (call: string, line: RegExp): RegExp => new RegExp(line.source.replace('CALL', call))

/** What the end of \`run\` says, a line each, without our name. */
const end = (script: string): string[] =>
  run([...KEYS, ...sh(`(${script}) >/dev/null 2>&1; true`)])
    .stderr.split('\n')
    .flatMap((line) => (line.startsWith('intercede: ') ? [line.slice('intercede: '.length)] : []))

describe.skipIf(cannot)(withReason('the end of run', cannot), () => {
  test.each([
    { what: 'umount -f', script: 'umount -f /', line: FORCED },
    { what: 'umount -f of a tmpfs that is served', script: 'mount -t tmpfs none /mnt; umount -f /mnt', line: FORCED },
    { what: 'remount,bind,noatime', script: 'mount -o remount,bind,noatime /', line: of('mount_setattr', TIMES) },
    { what: 'the same by mount(2)', script: `${OLD} mount -o remount,bind,noatime /`, line: of('mount', TIMES) },
    { what: 'nodiratime', script: 'mount -o remount,bind,nodiratime /', line: of('mount_setattr', TIMES) },
    { what: 'nodiratime by mount(2)', script: 'busybox mount -o remount,bind,nodiratime /', line: of('mount', TIMES) },
    { what: 'remount', script: 'mount -o remount,ro /', line: of('fspick', REMOUNT) },
    { what: 'remount by mount(2)', script: `${OLD} mount -o remount,ro /`, line: of('mount', REMOUNT) },
    {
      what: 'a map of bpf',
      script: `python3 -c 'import ctypes; ctypes.CDLL(None).syscall(321, 0, bytes([2,0,0,0, 4,0,0,0, 4,0,0,0, 1,0,0,0]) + bytes(64), 72)'`,
      line: /^bpf left to the kernel: a map of bpf, which no device program needs/,
    },
    {
      what: 'an attribute security.* of one byte',
      script: 'setfattr -n security.x -v v /root',
      line: /^setxattr(at)? left to the kernel: the policy does not list the attribute of this call: set "security.x"/,
    },
  ])('has a line for $what', ({ script, line }) => {
    expect(end(script)).toEqual([expect.stringMatching(line)])
  })

  test('has none for what the kernel does in any container', () => {
    const own = `unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /mnt; mount -o remount,size=1m none /mnt; umount -f /mnt'`
    const script = `mount -t proc none /proc; umount -f /proc; mount -t ramfs none /mnt; umount -f /mnt; ${own}
      mount -t tmpfs none /mnt; mount -o remount,bind,noatime /mnt; mount -o remount,size=1m /mnt; umount /mnt
      touch f; setfattr -n user.x -v v f; mknod w c 0 0; mount --bind /root /mnt; mount -o remount,bind,ro /mnt; umount /mnt`
    expect(end(script)).toEqual([])
  })

  test('shows the one refusal of a build first, whatever harmless calls it makes', () => {
    const harmless =
      'for i in $(seq 300); do touch f$i; setfattr -n user.x -v v f$i; setfattr -n security.ima -v v f$i; mknod w$i c 0 0; done'
    const lines = end(`${harmless}; mknod mem c 1 1; ${harmless.replaceAll('$i', 'x$i')}`)
    expect(lines[0]).toMatch(/^mknod(at)? left to the kernel: the device 1:1 is not allowed; no key allows it/)
    expect(lines).toHaveLength(2)
    expect(lines[1]).toMatch(/^setxattr(at)? left to the kernel 600 times: /)
  })
})
