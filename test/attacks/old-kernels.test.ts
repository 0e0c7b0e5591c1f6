// A kernel that lacks a feature must not leave a nested container without the rules that its runtime sets: crun goes on
// without a word if bpf(2) fails in a user namespace. What else it cannot do is said. test/support/older-kernel.ts takes each
// feature from a build: the kernel itself then answers as an older one does.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../support/bundle.ts'
import { missing } from '../support/fixtures.ts'
import { execute } from '../support/host.ts'
import { Images } from '../support/images.ts'
import { BASE, Machine } from '../support/machine.ts'
import { device, KEYS, NestedBundle } from '../support/nested-bundle.ts'
import { asOn, type Changes, without } from '../support/older-kernel.ts'
import { PatchedBuild } from '../support/patched-build.ts'
import { Podman, USUAL, writeProfile } from '../support/podman.ts'
import { type Ended, hasRuntime, run, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const why = unable() ?? (device ? undefined : 'this machine has no device to spare')

describe.skipIf(why)(withReason('a nested container', why), () => {
  let bundle: NestedBundle
  let build: PatchedBuild
  beforeAll(() => {
    bundle = new NestedBundle()
    build = new PatchedBuild(...without('procmapQuery'))
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

/** Runs `check` with the program of a build that has other changes. */
async function withBuild(changes: Changes, check: (program: string) => unknown): Promise<void> {
  const build = new PatchedBuild(...changes)
  try {
    await check(build.program)
  } finally {
    await build.remove(undefined)
  }
}

const alone = unable()
const hasExt4 = /^\text4$/m.test(readFileSync('/proc/filesystems', 'latin1'))
describe.skipIf(alone)(withReason('an old kernel', alone), () => {
  test('without WAIT_KILLABLE_RECV: profiles do not ask for it', async () => {
    await withBuild(without('waitKillableRecv'), (program) => {
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
    await withBuild(without('uniqueMountIds'), (program) => {
      const keys = ['-c', 'mount', '-c', 'mount.allowed=ext4', '--device', device]
      const script = `for i in $(seq 20); do mount -t ext4 ${device} /mnt && umount /mnt || exit; done; echo all`
      const { stdout, stderr } = run([...keys, '--', 'sh', '-c', script], '', program)
      expect({ stdout, stderr }).toEqual({ stdout: 'all\n', stderr: '' })
    })
  })

  test('without a feature that is needed: run and serve start nothing, and say what doctor says', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'intercede-old-'))
    await withBuild(without('resolveCached'), (program) => {
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
    await withBuild(without('copyDetached'), (program) => {
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
    await withBuild(asOn('5.15'), (program) => {
      const does = (keys: readonly string[], script: string): Ended =>
        run([...keys.flatMap((key) => ['-c', key]), '--device', device, '--', 'sh', '-ec', script], '', program)
      const doctor = spawnSync(process.execPath, [program, 'doctor'], { encoding: 'utf8' })
      expect(doctor.stdout.match(/boot Linux \S+ or later/g)).toEqual(
        ['5.19', '6.6', '6.11', '6.8', '6.15', '6.9'].map((version) => `boot Linux ${version} or later`),
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
    })
  })
})

const unserved = alone ?? missing('crun', 'podman', 'unshare')
test.skipIf(unserved)(
  withReason('without all that Linux 5.15 lacks: crun and podman are served, with filters that it takes', unserved),
  () =>
    withBuild(asOn('5.15'), async (program) => {
      const machine = new Machine(program)
      await machine.serve()
      const podman = await Podman.start(machine)
      await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
      try {
        const script = 'mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T" /tmp/n; rm -f /tmp/n'
        const profiles = ['crun', 'podman'].map((name) =>
          writeProfile(machine, `${name}.json`, ['-c', 'mknod', '--runtime', name]),
        )
        const [profile, podmans] = await Promise.all(profiles)
        for (const file of [profile!, podmans!])
          expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] })
        const capabilities = ['CAP_MKNOD', 'CAP_DAC_OVERRIDE']
        const id = `old-kernel-${process.pid}`
        const folder = writeBundle(machine, { id, args: ['sh', '-c', script], profile: profile!, capabilities })
        const served = { status: 0, stdout: 'character special file 1:3\n' }
        expect(await machine.run('crun', 'run', '--bundle', folder, id)).toMatchObject(served)
        const options = [...USUAL, '--userns=auto', '--cap-add=MKNOD', `--security-opt=seccomp=${podmans}`]
        expect(await podman.run('run', ...options, 'test', 'sh', '-c', script)).toMatchObject(served)
      } finally {
        await podman.close()
        await machine.close()
      }
    }),
)
