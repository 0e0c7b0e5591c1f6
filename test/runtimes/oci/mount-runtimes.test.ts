import { chownSync, copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../../support/bundle.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { execute } from '../../support/host.ts'
import { Images, must } from '../../support/images.ts'
import { Lxc } from '../../support/lxc.ts'
import { BASE, Machine } from '../../support/machine.ts'
import { writeProfile } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = missing('crun', 'runc', 'lxc-start', 'gcc', 'busybox', 'losetup', 'mkfs.ext4')
const CAPABILITIES = ['SYS_ADMIN', 'DAC_OVERRIDE', 'CHOWN'].map((name) => `CAP_${name}`)
const KEYS = ['mount=true', 'mount.allowed=ext4,xfs']
const SCRIPT = 'busybox mount -t tmpfs none /mnt && mount-errnos /disk /mnt'

let machine: Machine
let images: Images
let native: string

/** The calls and the errnos are printed by one program; what is around them differs. */
const linesOf = (text: string): readonly string[] => text.split('\n').filter((line) => /: (ok|E[A-Z0-9]+)$/.test(line))

describe.skipIf(cannot)(withReason('every call of the mount APIs ends as for root of the host', cannot), () => {
  beforeAll(async () => {
    machine = new Machine()
    images = new Images()
    const device = images.device('ext4')
    const program = fixture('mount-errnos', ['-static'])
    copyFileSync(program, join(machine.rootfs, 'bin/mount-errnos'))
    mkdirSync(join(machine.rootfs, 'mnt'))
    must('mknod', ['-m', '600', join(machine.rootfs, 'disk'), 'b', '7', device.replace(/\D/g, '')])
    must('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
    chownSync(join(machine.rootfs, 'disk'), BASE, BASE)
    must('chmod', ['1777', join(machine.rootfs, 'tmp')])
    const inPlace = `mount -t tmpfs none /mnt && ${program} ${device} /mnt`
    native = (await execute('unshare', ['--mount', 'sh', '-c', inPlace])).stdout
    expect(linesOf(native)).toHaveLength(121)
    await machine.serve()
  })
  afterAll(async () => {
    await machine?.close()
    images?.[Symbol.dispose]()
  })

  test.each(['crun', 'runc'])('in a container of %s', async (runtime) => {
    const id = `mounts-${runtime}-${process.pid}`
    const keys = KEYS.flatMap((key) => ['-c', key])
    const profile = await writeProfile(machine, `${runtime}.json`, [...keys, '--runtime', runtime])
    const devices = [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'b', major: 7, access: 'rwm' },
    ]
    const folder = writeBundle(machine, {
      id,
      args: ['sh', '-c', SCRIPT],
      profile,
      capabilities: CAPABILITIES,
      devices,
    })
    const manager = runtime === 'crun' ? ['--cgroup-manager', 'cgroupfs'] : []
    const state = ['--root', join(machine.directory, 'state'), ...manager]
    const { stdout, stderr } = await machine.run(runtime, ...state, 'run', '--bundle', folder, id)
    expect(linesOf(stdout), stderr).toEqual(linesOf(native))
  })

  test('in a container of LXC', async () => {
    const lxc = await Lxc.make(machine, `mounts-lxc-${process.pid}`, KEYS)
    try {
      expect(await lxc.start()).toBe(0)
      const { said } = await lxc.ask(SCRIPT)
      expect(linesOf(said), said).toEqual(linesOf(native))
    } finally {
      await lxc.stop()
    }
  })
})
