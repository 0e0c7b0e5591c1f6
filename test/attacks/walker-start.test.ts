/**
 * The nsenter(1) that starts a walker, once it has entered the user namespace of the container and is root of the host still:
 * the container's root, where it sees the host's processes, could trace it, and write files as root of the host. The kernel
 * refuses what is not dumpable and has the host's `mm->user_ns` (linux/kernel/ptrace.c __ptrace_may_access()), as is what was
 * executed with a real group that is not the effective one (linux/fs/exec.c begin_new_exec()). By itself the kernel makes it so
 * only where the executed program gets capabilities that the engine has not (linux/kernel/cred.c commit_creds()): where the
 * bounding set has others.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { permittedMain } from '../../src/calls/steps.ts'
import { CLI, Daemon } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, execute, USERNS, until } from '../support/host.ts'
import { walkersOf } from '../support/hostile.ts'
import { Installed } from '../support/installed.ts'
import { withReason } from '../support/skipped.ts'
import { Strace } from '../support/strace.ts'

const cannot = missing('gcc', 'strace', 'nsenter', 'setpriv')
/** The first call that nsenter(1) makes in the user namespace, and no other process of ours at all. */
const FIRST = 'setgid'
/** At most: it goes on when the attack is over. */
const HELD_S = 20
const BOUNDING = ['-all', ...permittedMain.map((cap) => `+${cap.toLowerCase()}`)].join(',')

const CONFIG = 'default: { mknod: true }'

const own = readlinkSync('/proc/self/ns/user')

/** The process that is held, once it is in the user namespace of a container. */
function heldIn(engine: number): number | undefined {
  return walkersOf(engine).find((pid) => {
    const directory = `/proc/${pid}`
    return (
      existsSync(directory) &&
      readFileSync(`${directory}/comm`, 'latin1') === 'nsenter\n' &&
      readlinkSync(`${directory}/ns/user`) !== own
    )
  })
}

const userOf = (pid: number): string | undefined =>
  /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]

/** Makes a node in a container, where only a walker reaches. @returns what the caller says */
async function callIn({ directory, socket }: Daemon): Promise<string> {
  const closed = join(directory, 'closed')
  for (const path of [closed, join(closed, 'in')]) {
    mkdirSync(path, { recursive: true })
    chownSync(path, BASE + 1, BASE + 1)
    chmodSync(path, 0o700)
  }
  const command = [fixture('caller'), 'mknod', join(closed, 'in', 'null'), '020666', '1', '3']
  const container = [socket, '--userns', USERNS, '--pidns', '--await-agent', '--', ...command]
  return (await execute(fixture('filtered'), container)).stdout.trim()
}

/** Of a starter of a walker, which strace(1) holds: what root of its container gets that the kernel gives to who may trace it. */
interface Seen {
  readonly user: string | undefined
  readonly root: string
  readonly made: string
}

async function watch(bounding: string, program = CLI): Promise<Seen> {
  const within = ['setpriv', `--bounding-set=${bounding}`, '--inh-caps=-all', '--']
  const daemon = await Daemon.start(CONFIG, program, within)
  const { engine } = daemon
  const delay = `inject=${FIRST}:delay_enter=${HELD_S * 1e6}`
  const strace = await Strace.attach(engine, ['-e', `trace=${FIRST}`, '-e', delay, '-o', '/dev/null'])
  try {
    const call = callIn(daemon)
    await until('nsenter(1) has entered the user namespace', () => heldIn(engine) !== undefined)
    const held = heldIn(engine)!
    const user = userOf(held)
    const attack = ['--user', `--target=${held}`, '--', 'readlink', `/proc/${held}/root`]
    const { stdout } = spawnSync('nsenter', attack, { encoding: 'utf8' })
    await strace.end()
    return { user, root: stdout.trim(), made: await call }
  } finally {
    await strace.end()
    await daemon.close()
  }
}

describe.skipIf(cannot)(withReason('who starts a walker is not to be traced from its container', cannot), () => {
  test.each([
    { name: 'the whole bounding set', bounding: '+all' },
    { name: "a bounding set that is the engine's permitted set", bounding: BOUNDING },
  ])('under $name', async ({ bounding }) => {
    expect(await watch(bounding)).toEqual({ user: '0', root: '', made: '{"ok":true}' })
  })

  test('a build that starts it with equal groups is found', async () => {
    const installed = new Installed()
    try {
      installed.rewrite('engine/helpers/walkers.js', '`--rgid=', '`--regid=')
      await installed.replace()
      expect(await watch(BOUNDING, installed.program)).toMatchObject({ user: '0', root: '/' })
    } finally {
      installed.remove()
    }
  })

  test('where fs.suid_dumpable says that all programs are dumpable there is none', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'intercede-dumpable-'))
    const setting = join(scratch, 'suid_dumpable')
    writeFileSync(setting, '1\n')
    const script = `mount --bind ${setting} /proc/sys/fs/suid_dumpable && exec "$@"`
    const daemon = await Daemon.start(CONFIG, CLI, ['unshare', '--mount', 'sh', '-c', script, 'sh'])
    try {
      for (const _ of [1, 2]) expect(await callIn(daemon)).toBe('{"errno":"EPERM"}')
      expect(walkersOf(daemon.engine)).toEqual([])
      const left = () => daemon.log.filter(({ reason }) => reason === 'noWalker').length
      await until('both calls are recorded', () => left() === 2)
      expect(daemon.log.filter(({ message }) => /suid_dumpable/.test(`${message}`))).toHaveLength(1)
      writeFileSync(setting, '2\n')
      expect(await callIn(daemon)).toBe('{"ok":true}')
    } finally {
      await daemon.close()
      rmSync(scratch, { recursive: true })
    }
  })
})
