/**
 * Calls that hang in what a neighbour serves, which needs no key of ours: pages of a file that it has sent, a directory that it
 * has locked. They hang on when their own container has ended, and it may be started again and again, as `--restart=always` does.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Daemon, Maker } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, execute, USERNS, until } from '../support/host.ts'
import { stuckThreads, withoutFuse } from '../support/hostile.ts'
import { mounters } from '../support/mounters.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'unshare') ?? withoutFuse()
/** Calls of all containers, and of each. */
const [CALLS, OF_ONE] = [8, 3] as const
/** The first leaves three, and the next one each from half of all on: more than there may be. */
const STARTS = CALLS + 2

let daemon: Daemon
let lender: ChildProcess
let socket: string
const started: ChildProcess[] = []

beforeAll(async () => {
  if (cannot) return
  daemon = await Daemon.start(`limits: { calls: ${CALLS}, callsPerContainer: ${OF_ONE} }`)
  const [at, device] = [join(daemon.directory, 'mount'), join(daemon.directory, 'device')]
  mkdirSync(at)
  chownSync(at, BASE, BASE)
  await execute('mknod', ['-m', '666', device, 'c', '10', '229'])
  socket = join(daemon.directory, 'lender.sock')
  const command = ['unshare', '--mount', fixture('page-lender'), 'lend', device, at, socket]
  lender = spawn(fixture('filtered'), ['-', '--no-filter', '--userns', USERNS, '--pidns', '--', ...command])
  await says(lender, 'lends\n')
})
afterEach(async () => {
  for (const each of started.splice(0)) await end(each)
})
afterAll(async () => {
  lender?.kill('SIGKILL')
  await daemon?.close()
})

async function says(child: ChildProcess, what: string): Promise<void> {
  let said = ''
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await until(`it says ${what}`, () => said.includes(what) || child.exitCode !== null, 10)
  expect(said).toBe(what)
}

/** Starts a container in which more calls hang than it may have. */
async function hang(): Promise<ChildProcess> {
  const metadata = 'security.syscalls.intercept.mknod=true'
  const container = ['--userns', USERNS, '--pidns', '--await-agent', '--metadata', metadata]
  const command = [fixture('page-lender'), 'call', socket, '6']
  const child = spawn(fixture('filtered'), [daemon.socket, ...container, '--', ...command])
  started.push(child)
  await says(child, 'started\n')
  return child
}

async function end(child: ChildProcess): Promise<void> {
  child.stdin!.end()
  await until('it has ended', () => child.exitCode !== null || child.signalCode !== null, 10)
}

/** Its number is the same on all machines. */
const MOVE_MOUNT = '429'

/** How many mounters of the engine attach a mount, which they cannot while the directory is locked. */
const hanging = (): number => mounters(daemon.engine).filter((pid) => isIn(pid, MOVE_MOUNT)).length

function isIn(pid: string, call: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/syscall`, 'latin1').startsWith(`${call} `)
  } catch {
    return false
  }
}

const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)

const MOUNTERS = 8
const KEYS = [
  ...['--pidns', '--await-agent', '--mounts', '--metadata'],
  ['mount=true', 'mount.allowed=tmpfs'].map((key) => `security.syscalls.intercept.${key}`).join('\n'),
]

describe.skipIf(cannot)(
  withReason('mounts on a directory that a neighbour has locked', cannot),
  { timeout: 90_000 },
  () => {
    let neighbour: ChildProcess
    let at: string
    afterAll(() => void neighbour?.kill('SIGKILL'))

    test('leave mounters to others, however often their container is started again', async () => {
      at = join(daemon.directory, 'locked')
      mkdirSync(at)
      chownSync(at, BASE, BASE)
      const lock = [fixture('page-lender'), 'lock', join(daemon.directory, 'device'), at]
      const command = ['--userns', USERNS, '--pidns', '--', 'unshare', '--mount', ...lock]
      neighbour = spawn(fixture('filtered'), ['-', '--no-filter', ...command])
      await says(neighbour, 'locked\n')
      for (let count = 0; count < MOUNTERS; count++) await end(await mountThere())
      const mount = ['unshare', '--mount', 'sh', '-c', 'mount -i -t tmpfs none /mnt && echo mounted']
      const other = await execute(fixture('filtered'), [daemon.socket, '--userns', USERNS, ...KEYS, '--', ...mount])
      expect(other).toMatchObject({ status: 0, stdout: 'mounted\n' })
    })

    async function mountThere(): Promise<ChildProcess> {
      const before = hanging()
      const [pid] = childrenOf(neighbour.pid!)
      const inside = ['--join', `${pid}`, '--uid', '0', '--gid', '0']
      const mount = `LIBMOUNT_FORCE_MOUNT2=always mount -i -t tmpfs none ${at}/dir`
      const command = ['unshare', '--mount', 'sh', '-c', `${mount} & ${mount} & read -r _`]
      const child = spawn(fixture('filtered'), [daemon.socket, ...inside, ...KEYS, '--', ...command])
      started.push(child)
      await until('its mounts hang', () => hanging() > before || hanging() >= MOUNTERS)
      return child
    }
  },
)

describe.skipIf(cannot)(withReason('calls that hang in the pages of a neighbour', cannot), { timeout: 60_000 }, () => {
  test('do not add up with each engine, and keep no other container known', async () => {
    await hang()
    await until('its calls hang', () => stuckThreads(daemon.engine).length >= OF_ONE)
    const before = daemon.engine
    process.kill(before, 'SIGKILL')
    await until('another engine serves', () => daemon.engine !== before, 20)
    await until('its calls hang again', () => stuckThreads(daemon.engine).length >= OF_ONE)
    const ended = daemon.logged('container ended')
    const other = new Maker(daemon)
    expect(await other.make()).toBe('ok')
    expect(stuckThreads(daemon.engine)).toHaveLength(OF_ONE)
    other.end()
    await until('the other container has ended', () => daemon.logged('container ended') > ended)
  })

  test('give their threads back, however often their container is started again', async () => {
    for (let count = 0; count < STARTS; count++) await end(await hang())
    await until('another container is served', async () => (await new Maker(daemon).once()) === 'ok', 20)
  })
})
