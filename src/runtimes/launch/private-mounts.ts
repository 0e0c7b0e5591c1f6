import { mkdirSync, readFileSync } from 'node:fs'
import { mount } from '../../kernel/mount.ts'
import { parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { enterOwnMounts } from '../../processes/own-mounts.ts'
import { programFiles } from '../../processes/program-files.ts'
import { makeDirectory } from '../make-directory.ts'
import { hostFileSystems } from './host-file-systems.ts'
import { BASE, layout } from './layout.ts'
import type { Plan } from './plan.ts'

/** Limits in bytes and inodes of the tmpfs, which holds all that a container writes to its default root. */
const LIMITS = 'size=25%,nr_inodes=1m'
/** The programs that `run`, its engine and helpers start, besides the runtime. */
const PROGRAMS = ['cat', 'choom', 'find', 'nsenter', 'rmdir', 'setpriv', 'sh', 'sleep', 'stty', 'timeout', 'unshare']
/** Directories of pseudo file systems, which nobody unmounts in order to remove a disk. */
const KERNELS = ['/proc', '/sys', '/dev']

/**
 * Moves the main thread, and every program that it starts later, into a mount namespace with an empty tmpfs on BASE
 * and only those mounts of the host that the container shows or we need. The working directory is then `/`.
 *
 * Threads that run already stay outside: from here on no asynchronous call of `fs` may name a path.
 */
export function enterPrivateMounts({ rootfs, binds, runtime, init }: Plan): void {
  makeDirectory(BASE)
  // The copies are made first: a handle of a mount of another mount namespace is good for nothing.
  for (const { tree } of [...(rootfs === undefined ? [] : [rootfs]), ...binds]) tree.detach()
  const shown = rootfs === undefined ? hostPoints() : []
  enterOwnMounts(
    [...shown, BASE, runtime.path, ...(init === undefined ? [] : [init]), ...programFiles(PROGRAMS)],
    KERNELS,
  )
  mount('tmpfs', BASE, 0n, `mode=0711,${LIMITS}`)
  for (const directory of [layout.root, layout.layers, layout.fresh, layout.bundle, layout.state]) {
    mkdirSync(directory, { mode: 0o711 })
  }
}

const hostPoints = (): readonly string[] =>
  hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))).map(({ point }) => point)
