import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY } from '../../abi/mount.ts'
import { orElse } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/fd.ts'
import { which } from '../runtime.ts'
import type { BindRequest } from './binds.ts'
import { graft, insideFile } from './tree.ts'

/**
 * Names of tini, linked statically, since the container's root may lack libraries: Debian's, and Docker's. catatonit
 * would not do: it starts the command with Ctrl-Z blocked, and ends with 1 where the command cannot be executed.
 */
const PROGRAMS = ['tini-static', 'docker-init']

/** The Debian package of the first. */
export const INIT_PACKAGE = 'tini'

/** Where the container sees its init: in a directory that no tree brings along. Of the name 15 bytes are in `comm`. */
const INIT = '/dev/.intercede-init'

/** Returns the program that becomes the container's first process; undefined if none is installed. */
export const installedInit = (find: typeof which = which): string | undefined =>
  PROGRAMS.map(find).find((path) => path !== undefined)

/** @throws {Error} if no init is installed */
export function findInit(find: typeof which = which): string {
  const path = installedInit(find)
  if (path !== undefined) return path
  throw new Error(
    `Cannot start the container's init: no ${PROGRAMS.join(' or ')} found: apt-get install ${INIT_PACKAGE}, ` +
      'or --no-init; the command then gets only signals that it handles',
  )
}

/**
 * Tells whether a process has become the init and started the command. Until then the kernel drops signals, since the
 * process is the first of its namespace and has no handlers.
 */
export const hasStarted = (pid: number | undefined): boolean =>
  orElse(
    false,
    () => pid !== undefined && readFileSync(`/proc/${pid}/comm`, 'latin1') === `${basename(INIT)}\n` && hasChild(pid),
  )

/** Returns true also if the kernel does not list children (CONFIG_PROC_CHILDREN). */
function hasChild(pid: number): boolean {
  const list = `/proc/${pid}/task/${pid}/children`
  return !existsSync(list) || readFileSync(list, 'latin1') !== ''
}

/** @throws {Error} if a bind would hide the init */
export function refuseOverInit(binds: readonly BindRequest[]): void {
  const over = binds.find(({ target }) => resolve(target) === '/' || resolve(target) === dirname(INIT))
  if (over === undefined) return
  throw new Error(
    `Cannot use --bind "${over.text}": it would hide the container's init, which is in ${dirname(INIT)}; ` +
      'use --device for a device, --rootfs for a root, or --no-init',
  )
}

/**
 * Mounts the init into the container's root, not nodev: the file system that it comes from would then count as one on
 * which the runtime lets no device open (docs/guide/devices.md), also where a bind mount shows it.
 *
 * Precondition: /dev is in place.
 */
export function placeInit(root: Handle, program: string): void {
  using file = insideFile(root, INIT)
  graft(program, file, { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID })
}

/** Returns the words that start `command` under the init. */
export const underInit = (command: readonly string[]): readonly string[] => [INIT, '--', ...command]
