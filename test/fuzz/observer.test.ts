import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { setPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { capabilities, capMask } from '../../src/abi/credentials.ts'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../src/abi/fcntl.ts'
import { attachDeviceProgram } from '../../src/kernel/bpf.ts'
import { openat } from '../../src/kernel/files.ts'
import { readRange } from '../../src/runtimes/launch/ids.ts'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { missing } from '../support/fixtures.ts'
import { Host, until } from '../support/host.ts'
import { Images } from '../support/images.ts'
import { unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'
import { CapabilitySets, type Declared } from './capability-sets.ts'
import { HostMounts, mountsLeft } from './host-mounts.ts'
import { MARK, MARKED } from './mark.ts'
import { Observer } from './observer.ts'
import { family, isContained, link } from './processes.ts'
import { Strays } from './strays.ts'

const cannot = unable() ?? missing('gcc', 'unshare', 'getfattr', 'setfattr', 'losetup', 'mkfs.ext4') ?? withoutCgroups()

/** On a disk of the host, outside of the temporary directory, where other tests are. */
const ON_HOST = `/var/tmp/intercede-observed-${process.pid}`
const NOTHING: Declared = { permitted: 0n, bounding: 0n, noNewPrivileges: true, rest: 0n }
/** r3 = MARK; r0 = 1; exit */
const PROGRAM = Buffer.from('b703000000000000b7000000010000009500000000000000', 'hex')
PROGRAM.writeInt32LE(MARK, 4)

describe.skipIf(cannot)(withReason('the observer', cannot), { timeout: 60_000 }, () => {
  let top: string
  let outside: string
  let bystander: ChildProcess
  const undo: (() => unknown)[] = []

  /** A child that has become `cat`, which stays until it is ended. */
  async function holder([program = '', ...args]: readonly string[]): Promise<ChildProcess> {
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'inherit'] })
    undo.push(() => child.kill('SIGKILL'))
    await until('it is there', () => link(`/proc/${child.pid}/exe`).endsWith('/cat'))
    return child
  }

  beforeAll(() => {
    top = mkdtempSync(join(tmpdir(), 'intercede-fuzz-'))
    outside = join(top, 'out')
    for (const name of ['out', 'in', 'mounts', 'tree', 'tree/deep']) mkdirSync(join(top, name))
    writeFileSync(ON_HOST, '')
    bystander = spawn('sleep', ['10000'], { stdio: 'ignore' })
  })
  afterAll(async () => {
    for (const each of undo.splice(0).reverse()) await each()
    bystander.kill('SIGKILL')
    rmSync(top, { recursive: true })
    rmSync(ON_HOST, { force: true })
  })

  const changes: readonly { readonly what: string; readonly does: () => unknown; readonly finds: RegExp }[] = [
    {
      what: 'a mount',
      does() {
        mkdirSync(join(top, 'mounted'))
        execFileSync('mount', ['-t', 'tmpfs', 'none', join(top, 'mounted')])
        undo.push(() => execFileSync('umount', [join(top, 'mounted')]))
      },
      finds: /^a mount came to the host: .*tmpfs/,
    },
    { what: 'a file outside', does: () => writeFileSync(join(outside, 'x'), ''), finds: /^outside of the container: / },
    {
      what: 'a device node',
      does() {
        execFileSync('mknod', [`${ON_HOST}-node`, 'c', '1', '3'])
        undo.push(() => rmSync(`${ON_HOST}-node`))
      },
      finds: /^device nodes: gone: {2}new: .*-node 1:3/,
    },
    {
      what: 'an attribute',
      does: () => execFileSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', ON_HOST]),
      finds: /^attributes: .*intercede-observed/,
    },
    {
      what: 'the scheduling of a process of the host',
      does: () => setPriority(bystander.pid!, 7),
      finds: /^a thread of the host was scheduled: .* sleep: nice 0, .* became nice 7,/,
    },
    {
      what: 'a limit of a process of the host',
      does: () => execFileSync('prlimit', ['--pid', `${bystander.pid}`, '--core=0:0']),
      finds: /^the limits of a process of the host changed: .* sleep$/,
    },
    {
      what: 'a cgroup',
      does() {
        const path = new Group().path
        mkdirSync(`${path}/${MARKED}0`)
        undo.push(
          () => rmdirSync(path),
          () => rmdirSync(`${path}/${MARKED}0`),
        )
      },
      finds: /^a cgroup was made: .*fuzz-\d+-0$/,
    },
    {
      what: 'a device program',
      does() {
        const group = new Group()
        undo.push(() => group.remove())
        using directory = openat(AT_FDCWD, Buffer.from(`${group.path}\0`), O_RDONLY | O_DIRECTORY)
        attachDeviceProgram(directory, PROGRAM)
      },
      finds: /^a program of the container: attached .*intercede-test/,
    },
    {
      what: 'a node where everybody may write',
      does: () => execFileSync('mknod', [`/dev/shm/${MARKED}n1`, 'c', '1', '3']),
      finds: /^made outside of the container: \/dev\/shm\/fuzz-\d+-n1$/,
    },
    {
      what: "a file in another container's tree",
      does: () => writeFileSync(join(top, 'tree/deep', `${MARKED}n2`), ''),
      finds: /^made outside of the container: .*\/tree\/deep\/fuzz-\d+-n2$/,
    },
    {
      what: 'a capability too many',
      async does() {
        await holder(['bash', '-c', 'exec -a walker/main cat'])
      },
      finds: /^capability sets: walker: at rest effective \d\d capabilities, not none$/,
    },
    {
      what: 'a descriptor inside',
      async does() {
        // What Node gives as a pipe is a socket.
        const child = spawn('unshare', ['--user', '--pid', '--fork', '--kill-child', 'cat'], {
          stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
        })
        undo.push(() => child.kill('SIGKILL'))
        await until('the container is there', () => family(child.pid!).some(isContained))
      },
      finds: /^a descriptor inside: .* has 3: socket:/,
    },
  ]

  test('finds each kind of change, and nothing where there is none', { timeout: 300_000 }, async () => {
    const place = {
      ours: top,
      outside,
      mounts: join(top, 'mounts'),
      own: [join(top, 'in')],
      others: [join(top, 'tree')],
    }
    const declared = new Map([['walker', NOTHING]] as const)
    const observer = new Observer({ ...place, keeper: process.pid, declared })
    undo.push(() => observer.tidy())
    const findings = async (): Promise<readonly string[]> => {
      observer.check()
      await sleep(100)
      observer.check()
      await observer.checkAll()
      return [...observer.findings]
    }
    writeFileSync(join(top, 'in', `${MARKED}n3`), '')
    expect(await findings()).toEqual([])
    for (const { does } of changes) await does()
    const found = await findings()
    const missed = changes.filter(({ finds }) => !found.some((each) => finds.test(each)))
    expect(
      missed.map(({ what }) => what),
      found.join('\n'),
    ).toEqual([])
  })

  test('takes away what was made outside', async () => {
    const paths = [`/var/tmp/${MARKED}n4`, `/var/tmp/mutated-${process.pid}`] as const
    const strays = new Strays([], [])
    undo.push(() => paths.forEach((path) => void rmSync(path, { force: true })))
    writeFileSync(paths[0], '')
    execFileSync('mknod', [paths[1], 'c', '1', '3'])
    chownSync(paths[1], readRange().uid, readRange().gid)
    expect(strays.look()).toEqual(expect.arrayContaining([...paths]))
    strays.remove()
    expect(strays.look()).toEqual([])
  })

  test('sees a serving thread at rest with more in effect, or less, than is declared', async () => {
    const host = await Host.start()
    undo.push(() => host.close())
    const rest = capMask('SETUID', 'SETGID', 'SYS_CHROOT', 'SYS_PTRACE')
    const all = capMask(...capabilities)
    const looks = async (declared: Declared): Promise<readonly string[]> => {
      const sets = new CapabilitySets(process.pid, new Map([['serving thread', declared]] as const))
      sets.look()
      await sleep(300)
      return sets.look()
    }
    const may = { permitted: all, bounding: all, noNewPrivileges: false }
    expect(await looks({ ...may, rest })).toEqual([])
    for (const other of [rest | capMask('MKNOD'), rest & ~capMask('SETUID')])
      expect(await looks({ ...may, rest: other })).toEqual([
        expect.stringMatching(/^serving thread: at rest effective SETGID SETUID SYS_CHROOT SYS_PTRACE, not /),
      ])
    const less = all & ~capMask('SYS_PTRACE')
    expect(await looks({ ...may, rest, permitted: less })).toEqual([
      'serving thread: permitted SYS_PTRACE',
      'serving thread: effective SYS_PTRACE',
    ])
  })

  test('sees all that a process may do beyond what is declared', async () => {
    const child = await holder(['bash', '-c', 'exec -a mounter/main cat'])
    const sets = new CapabilitySets(child.pid!, new Map([['mounter', NOTHING]] as const))
    expect(sets.look()).toEqual([])
    await sleep(100)
    expect(sets.look()).toEqual([
      ...['permitted', 'effective', 'bounding'].map((what) => expect.stringMatching(`^mounter: ${what} \\d+ capab`)),
      'mounter: no_new_privs is not set',
      expect.stringMatching(/^mounter: at rest effective \d+ capabilities, not none$/),
    ])
    await end(child)
  })

  test('sees what keeps mounts that the host has taken away, and those of a container that has ended', async () => {
    const images = new Images()
    undo.push(() => images[Symbol.dispose]())
    const device = images.device('ext4')
    const mounts = new HostMounts(join(top, 'mounts'), device)
    undo.push(() => mounts[Symbol.dispose]())
    expect(await mounts.cycle(process.pid)).toEqual([])

    const copy = await holder(['unshare', '--mount', '--propagation', 'private', 'cat'])
    expect(await mounts.cycle(process.pid)).toEqual([expect.stringMatching(/^mounts of the host stay busy: cat$/)])
    await end(copy)
    expect(await mounts.cycle(process.pid)).toEqual([])

    expect(mountsLeft([device], join(top, 'mounts'))).toEqual([])
    const script = `mount -t tmpfs ${MARKED}x /mnt && mount --bind ${join(top, 'mounts/disk')} /media && exec cat`
    const left = await holder(['unshare', '--mount', 'sh', '-c', script])
    const found = mountsLeft([device], join(top, 'mounts'))
    expect(found.filter((line) => line.includes(`- tmpfs ${MARKED}x`))).toHaveLength(1)
    expect(found.filter((line) => line.includes(`- ext4 ${device}`))).toHaveLength(1)
    await end(left)
    expect(mountsLeft([device], join(top, 'mounts'))).toEqual([])
  })
})

const end = (child: ChildProcess): Promise<unknown> => {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  return ended
}
