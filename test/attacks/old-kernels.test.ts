// A kernel that lacks a feature must not leave a nested container without the rules that its runtime sets: crun goes on
// without a word if bpf(2) fails in a user namespace. What else it cannot do is said. Each feature is taken away from a build: the
// kernel itself then answers as an older one does.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../support/fixtures.ts'
import { Images } from '../support/images.ts'
import { device, KEYS, NestedBundle } from '../support/nested-bundle.ts'
import { type Patch, PatchedBuild } from '../support/patched-build.ts'
import { type Ended, hasRuntime, run, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const why = unable() ?? (device ? undefined : 'this machine has no device to spare')

describe.skipIf(why)(withReason('a nested container', why), () => {
  let bundle: NestedBundle
  let build: PatchedBuild
  beforeAll(() => {
    bundle = new NestedBundle()
    // ENOTTY, as before 6.11.
    build = new PatchedBuild('abi/memory.js', '_IOWR(0x66, 17,', '_IOWR(0x66, 99,')
  })
  afterAll(async () => {
    bundle.remove()
    await build.remove(undefined)
  })

  test.for(['crun', 'runc'] as const)('of %s is ruled on a kernel without PROCMAP_QUERY', (runtime, { skip }) => {
    if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    const { stdout, stderr } = bundle.inside(
      KEYS,
      `cp probe.json config.json; ${runtime} run probe </dev/zero`,
      build.program,
    )
    expect(stdout).toBe('null opens\n')
    expect(stderr).toMatch(`can't open ${device}: Operation not permitted`)
  })
})

/** What Linux 5.15 lacks: each is asked of the kernel by a number that no kernel knows. */
const SINCE_5_15: readonly [Patch, ...Patch[]] = [
  ['abi/seccomp.js', 'WAIT_KILLABLE_RECV = 1 << 5', 'WAIT_KILLABLE_RECV = 1 << 30'],
  ['abi/seccomp.js', 'NOTIF_SET_FLAGS = _IOW(MAGIC, 4', 'NOTIF_SET_FLAGS = _IOW(MAGIC, 99'],
  ['abi/process.js', 'PIDFD_THREAD = 0o200', 'PIDFD_THREAD = 0o200000000'],
  ['abi/process.js', 'NS_GET_PID_FROM_PIDNS = _IOR(NSIO, 0x6', 'NS_GET_PID_FROM_PIDNS = _IOR(NSIO, 0x66'],
  ['abi/process.js', 'NS_GET_PID_IN_PIDNS = _IOR(NSIO, 0x8', 'NS_GET_PID_IN_PIDNS = _IOR(NSIO, 0x68'],
  ['abi/process.js', 'PIDFD_GET_INFO = _IOWR(0xff, 11', 'PIDFD_GET_INFO = _IOWR(0xff, 99'],
  ['abi/memory.js', '_IOWR(0x66, 17,', '_IOWR(0x66, 99,'],
  ['abi/stat.js', 'STATX_MNT_ID_UNIQUE = 0x4000', 'STATX_MNT_ID_UNIQUE = 0x40000000'],
  [
    'kernel/mount.js',
    'OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW',
    'OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | 0x40000000',
  ],
]

/** Runs `check` with the program of a build of which one line is another. */
async function without(file: string, from: string, to: string, check: (program: string) => void): Promise<void> {
  const build = new PatchedBuild(file, from, to)
  try {
    check(build.program)
  } finally {
    await build.remove(undefined)
  }
}

const alone = unable()
const hasExt4 = /^\text4$/m.test(readFileSync('/proc/filesystems', 'latin1'))
describe.skipIf(alone)(withReason('an old kernel', alone), () => {
  test('without WAIT_KILLABLE_RECV: profiles do not ask for it', async () => {
    const [flag, unknown] = ['WAIT_KILLABLE_RECV = 1 << 5', 'WAIT_KILLABLE_RECV = 1 << 30']
    await without('abi/seccomp.js', flag, unknown, (program) => {
      const { stdout } = spawnSync(process.execPath, [program, 'profile', '-c', 'mknod'], { encoding: 'utf8' })
      expect(JSON.parse(stdout)).toMatchObject({ flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] })
      const { status, stderr } = run(['-c', 'mknod', '--', 'mknod', 'null', 'c', '1', '3'], '', program)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    })
  })

  test('without unique mount ids: what was mounted can be unmounted at once', async ({ skip }) => {
    const lacking = missing('losetup', 'mkfs.ext4') ?? (hasExt4 ? undefined : 'this kernel has no ext4')
    if (lacking) skip(lacking)
    using images = new Images()
    const device = images.device('ext4')
    await without('abi/stat.js', 'STATX_MNT_ID_UNIQUE = 0x4000', 'STATX_MNT_ID_UNIQUE = 0x40000000', (program) => {
      const keys = ['-c', 'mount', '-c', 'mount.allowed=ext4', '--device', device]
      const script = `for i in $(seq 20); do mount -t ext4 ${device} /mnt && umount /mnt || exit; done; echo all`
      const { stdout, stderr } = run([...keys, '--', 'sh', '-c', script], '', program)
      expect({ stdout, stderr }).toEqual({ stdout: 'all\n', stderr: '' })
    })
  })

  test('without a feature that is needed: run and serve start nothing, and say what doctor says', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'intercede-old-'))
    await without('abi/fcntl.js', 'RESOLVE_CACHED = 0x20', 'RESOLVE_CACHED = 0x40000000', (program) => {
      const said = (...words: readonly string[]): string =>
        spawnSync(process.execPath, [program, ...words], { encoding: 'utf8', timeout: 30_000, input: '' }).stderr
      const [name, remedy] = ['lookups that never block (RESOLVE_CACHED)', 'boot Linux 5.12 or later']
      for (const words of [
        ['run', '-c', 'mknod', '--', 'true'],
        ['serve', '--socket', join(directory, 'oci.sock')],
      ])
        expect(said(...words)).toMatch(`this kernel lacks ${name}`)
      const { stdout } = spawnSync(process.execPath, [program, 'doctor'], { encoding: 'utf8' })
      expect(stdout).toContain(`NEEDED   ${name}`)
      expect(stdout).toContain(remedy)
    })
    rmSync(directory, { recursive: true })
  })

  test('without copies of detached mounts: mknod on a tmpfs of the container says which Linux, and what else to do', async () => {
    const flags = 'OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW'
    await without('kernel/mount.js', flags, `${flags} | 0x40000000`, (program) => {
      const making = ['--', 'sh', '-c', 'mount -t tmpfs t /mnt && mknod /mnt/null c 1 3 && : >/mnt/null']
      const { status, stderr } = run(['-c', 'mknod', ...making], '', program)
      expect(status).toBe(1)
      expect(stderr).toContain('before Linux 6.15 no device node can be made to open there')
      expect(stderr).toContain('mount.allowed=tmpfs')
      const tmpfs = ['-c', 'mount', '-c', 'mount.allowed=tmpfs']
      expect(run(['-c', 'mknod', ...tmpfs, ...making], '', program)).toMatchObject({ status: 0, stderr: '' })
    })
  })

  test('without all that Linux 5.15 lacks: what doctor does not say is lost works', async ({ skip }) => {
    const lacking = missing('losetup', 'mkfs.ext4', 'setfattr') ?? (hasExt4 ? undefined : 'this kernel has no ext4')
    if (lacking) skip(lacking)
    using images = new Images()
    const device = images.device('ext4')
    const [first, ...more] = SINCE_5_15
    const build = new PatchedBuild(...first, ...more)
    const does = (keys: readonly string[], script: string): Ended =>
      run([...keys.flatMap((key) => ['-c', key]), '--device', device, '--', 'sh', '-ec', script], '', build.program)
    try {
      const doctor = spawnSync(process.execPath, [build.program, 'doctor'], { encoding: 'utf8' })
      // Copies of detached mounts are taken away only where a node is shown, which doctor does not try.
      expect(doctor.stdout.match(/boot Linux \S+ or later/g)).toEqual(
        ['5.19', '6.6', '6.9', '6.11', '6.13', '6.8'].map((version) => `boot Linux ${version} or later`),
      )
      const [mount, sysinfo] = [['mount', 'mount.allowed=ext4'], 'mkdir d; setfattr -n trusted.overlay.opaque -v y d']
      for (const [keys, script] of [
        [['mknod'], 'mknod null c 1 3; : >null'],
        [['sysinfo', 'setxattr'], `${sysinfo}; busybox uptime`],
        [['sched_setscheduler'], 'chrt -f 1 true'],
        [mount, `for i in 1 2 3 4 5; do mount -t ext4 ${device} /mnt; umount /mnt; done`],
        [[...mount, 'mount.shift=true'], `mount -t ext4 ${device} /mnt; mknod /mnt/p p; umount /mnt`],
      ] as const)
        expect(does(keys, script), script).toMatchObject({ status: 0, stderr: '' })
      const other = does(['sched_setscheduler'], 'sleep 100 & chrt -f -p 1 $!')
      expect(other).toMatchObject({ status: 1 })
      expect(other.stderr).toContain('Operation not permitted')
    } finally {
      await build.remove(undefined)
    }
  })
})
