/**
 * The nsenter(1) that starts a walker, once it has entered the user namespace of the container and is root of the host still:
 * the container's root, where it sees the host's processes, could trace it, and write files as root of the host. The kernel
 * refuses what is not dumpable and has the host's `mm->user_ns` (linux/kernel/ptrace.c __ptrace_may_access()), as is what was
 * executed with a real group that is not the effective one (linux/fs/exec.c begin_new_exec()). By itself the kernel makes it so
 * only where the executed program gets capabilities that the engine has not (linux/kernel/cred.c commit_creds()): where the
 * bounding set has others.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { permittedMain } from '../../src/calls/steps.ts'
import { fixture, missing } from '../fixtures.ts'
import { CLI, Daemon } from '../kernel/daemon.ts'
import { BASE, execute, USERNS, until } from '../kernel/host.ts'
import { walkersOf } from '../kernel/hostile.ts'
import { PatchedBuild } from '../kernel/patched-build.ts'
import { Strace } from '../kernel/strace.ts'

const cannot = missing('gcc', 'strace', 'nsenter', 'setpriv')
/** The first call that nsenter(1) makes in the user namespace, and no other process of ours at all. */
const FIRST = 'setgid'
/** Shorter than a call waits for its walker. */
const HELD_S = 1
const BOUNDING = ['-all', ...permittedMain.map((cap) => `+${cap.toLowerCase()}`)].join(',')

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

/** Of a starter of a walker, which strace(1) holds: what root of its container gets that the kernel gives to who may trace it. */
interface Seen {
  readonly user: string | undefined
  readonly root: string
  readonly made: string
}

async function watch(bounding: string, program = CLI): Promise<Seen> {
  const within = ['setpriv', `--bounding-set=${bounding}`, '--inh-caps=-all', '--']
  const daemon = await Daemon.start('default: { mknod: true }', program, within)
  const { engine, directory, socket } = daemon
  const delay = `inject=${FIRST}:delay_enter=${HELD_S * 1e6}`
  const strace = await Strace.attach(engine, ['-e', `trace=${FIRST}`, '-e', delay, '-o', '/dev/null'])
  try {
    const closed = join(directory, 'closed')
    for (const path of [closed, join(closed, 'in')]) {
      mkdirSync(path)
      chownSync(path, BASE + 1, BASE + 1)
      chmodSync(path, 0o700)
    }
    const command = [fixture('caller'), 'mknod', join(closed, 'in', 'null'), '020666', '1', '3']
    const call = execute(fixture('filtered'), [socket, '--userns', USERNS, '--pidns', '--await-agent', '--', ...command])
    let held: number | undefined
    await until('nsenter(1) has entered the user namespace', () => (held = heldIn(engine)) !== undefined)
    const user = userOf(held!)
    const attack = ['--user', `--target=${held}`, '--', 'readlink', `/proc/${held}/root`]
    const { stdout } = spawnSync('nsenter', attack, { encoding: 'utf8' })
    return { user, root: stdout.trim(), made: (await call).stdout.trim() }
  } finally {
    await strace.end()
    await daemon.close()
  }
}

describe.skipIf(cannot)('who starts a walker is not to be traced from its container', () => {
  test.each([
    { name: 'the whole bounding set', bounding: '+all' },
    { name: "a bounding set that is the engine's permitted set", bounding: BOUNDING },
  ])('under $name', async ({ bounding }) => {
    expect(await watch(bounding)).toEqual({ user: '0', root: '', made: '{"ok":true}' })
  })

  test('a build that starts it with equal groups is found', async () => {
    const build = new PatchedBuild('engine/walkers.js', '`--rgid=${apart}`', "'--rgid=0'")
    try {
      const program = fileURLToPath(new URL('cli/main.js', build.url))
      expect(await watch(BOUNDING, program)).toEqual({ user: '0', root: '/', made: '{"ok":true}' })
    } finally {
      await build.remove(undefined)
    }
  })
})
