import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dev, Mode, PathBytes, Tid } from '../../abi/brand.ts'
import { major, minor } from '../../abi/dev.ts'
import { S_IFCHR } from '../../abi/stat.ts'
import type { Fd } from '../../kernel/fd.ts'
import { mknodat } from '../../kernel/files.ts'
import { detachedTmpfs } from '../../kernel/fs-context.ts'
import { deviceGroups, isFrozen } from '../../mounter/join-cgroups.ts'
import type { Spawn } from '../helpers/spawn-guard.ts'

/** What the device rules of some control groups allow for one device. */
export interface DeviceRules {
  readonly mknod: boolean
  /** To read or to write. */
  readonly open: boolean
}

/** Control groups: the text of `/proc/TID/cgroup` of a task in them, or their directories. */
export type GroupsToJoin = string | readonly string[]

const PATIENCE_MS = 3000
const PAUSE_MS = 50
/** The status of a shell that finds no program. */
const NOT_STARTED = 127
/** The descriptor by which the probe finds its directory. */
const PLACE = 3
const NODE = Buffer.from('probe\0') as Uint8Array as PathBytes
const NODE_MODE = (S_IFCHR | 0o666) as Mode
const OPTIONS = [['size', '64k']] as const

/**
 * The program of the probe. Only the kernel can tell what is allowed: the rules are a program of cgroup v2 that it runs
 * for a process of the group. So a process joins the groups, and tries. After it has joined it starts no other process:
 * the group may allow none.
 *
 *   $1 major, $2 minor; the groups, a line each, on standard input, for their names are bytes; no name of a group has
 *   a line feed; its directory is a file system of its own that is mounted nowhere, with a node of the device
 */
const PROBE = `cd /proc/self/fd/${PLACE} || exit
while IFS= read -r group; do echo 0 >"$group/cgroup.procs" || exit; done
echo joined
[ -r probe ] || [ -w probe ] && echo open
exec mknod node c "$1" "$2"`

/**
 * Tries what control groups allow.
 *
 * @param tid the task whose call waits for the answer
 * @returns undefined if that cannot be found out: the host lacks memory, say
 */
export async function tryDevice(
  spawn: Spawn,
  { tid, groups, dev }: { readonly tid: Tid; readonly groups: GroupsToJoin; readonly dev: Dev },
): Promise<DeviceRules | undefined> {
  const directories = typeof groups === 'string' ? deviceGroups(groups) : groups
  for (;;) {
    const rules = await tryIn(spawn, directories, dev)
    if (rules !== 'late') return rules
    if (!directories.some(isFrozen) || !existsSync(`/proc/${tid}`)) return undefined
    // With what has joined the caller itself is to stop: it can wait until all of them go on.
    await sleep(PAUSE_MS)
  }
}

async function tryIn(spawn: Spawn, groups: readonly string[], dev: Dev): Promise<DeviceRules | 'late' | undefined> {
  using place = placeWith(dev)
  const child = spawn('sh', ['-c', PROBE, 'sh', `${major(dev)}`, `${minor(dev)}`], {
    stdio: ['pipe', 'pipe', 'ignore', place.raw],
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

/** A file system for one probe: it goes with its last descriptor. */
function placeWith(dev: Dev): Fd {
  const place = detachedTmpfs(OPTIONS)
  try {
    mknodat(place, NODE, NODE_MODE, dev)
    return place
  } catch (error) {
    place[Symbol.dispose]()
    throw error
  }
}
