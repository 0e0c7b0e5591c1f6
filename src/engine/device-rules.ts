import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dev, Tid } from '../abi/brand.ts'
import { major, minor } from '../abi/dev.ts'
import { deviceGroups, isFrozen } from '../caller/cgroups.ts'
import type { Spawn } from './spawning.ts'

/** What the device rules of a caller's control groups allow for one device. */
export interface DeviceRules {
  readonly mknod: boolean
  /** To read or to write. */
  readonly open: boolean
}

const PATIENCE_MS = 3000
const PAUSE_MS = 50
/** As a shell has it. */
const NOT_STARTED = 127

/**
 * Only the kernel can tell: the rules are a program of cgroup v2 that it runs for a process of the group. So one joins, and
 * tries. After it has joined it starts nothing: the group may allow no further process.
 *
 *   $1 a directory to mount a tmpfs on, in a mount namespace of its own; $2 major, $3 minor; the groups, a line each, on
 *   standard input, for their names are bytes; no name of a group has a line feed
 */
const PROBE = `mount -t tmpfs none "$1" && cd "$1" && mknod probe c "$2" "$3" && chmod 666 probe || exit
while IFS= read -r group; do echo 0 >"$group/cgroup.procs" || exit; done
echo joined
[ -r probe ] || [ -w probe ] && echo open
exec mknod node c "$2" "$3"`

/** Tries what the control groups of `tid` allow. @returns undefined if that cannot be found out: the host lacks memory, say */
export async function tryDevice(spawn: Spawn, tid: Tid, dev: Dev): Promise<DeviceRules | undefined> {
  const groups = groupsOf(tid)
  if (!groups) return undefined
  for (;;) {
    const rules = await tryIn(spawn, groups, dev)
    if (rules !== 'late') return rules
    if (!groups.some(isFrozen) || !groupsOf(tid)) return undefined
    // With what has joined the caller itself is to stop: it can wait until all of them go on.
    await sleep(PAUSE_MS)
  }
}

async function tryIn(spawn: Spawn, groups: readonly string[], dev: Dev): Promise<DeviceRules | 'late' | undefined> {
  const args = [
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    PROBE,
    'sh',
    '/run',
    `${major(dev)}`,
    `${minor(dev)}`,
  ]
  const child = spawn('unshare', args, {
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: PATIENCE_MS,
    killSignal: 'SIGKILL',
    cwd: '/',
  })
  let said = ''
  const ended = new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(NOT_STARTED))
    child.on('close', resolve)
  })
  // Where no descriptor is free, Node gives the child no pipes.
  const { stdin, stdout } = child as Partial<typeof child>
  // It may have ended before it has read them.
  stdin?.on('error', () => {})
  stdin?.end(Buffer.from(groups.map((group) => `${group}\n`).join(''), 'latin1'))
  stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const status = await ended
  if (status === null) return 'late'
  // mknod(1) ends with 0 or 1; the shell with more where it cannot execute it.
  if (status > 1 || !said.includes('joined')) return undefined
  return { mknod: status === 0, open: said.includes('open') }
}

function groupsOf(tid: Tid): readonly string[] | undefined {
  try {
    return deviceGroups(readFileSync(`/proc/${tid}/cgroup`, 'latin1'))
  } catch {
    return undefined
  }
}
