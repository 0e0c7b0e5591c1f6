import { mkdirSync, readFileSync } from 'node:fs'
import { mount } from '../../kernel/mount.ts'
import { parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { enterOwnMounts } from '../../processes/own-mounts.ts'
import { programFiles } from '../../processes/program-files.ts'
import { hostFileSystems } from './host-file-systems.ts'
import { BASE, layout } from './layout.ts'
import type { Plan } from './plan.ts'

/** All that a container writes to its default root lies in memory: bounded in bytes and in inodes. */
const LIMITS = 'size=25%,nr_inodes=1m'
/** What `run`, its engine and the helpers of that start, besides the runtime. */
const PROGRAMS = ['cat', 'choom', 'nsenter', 'setpriv', 'sh', 'unshare']
/** File systems of the kernel's own, which nobody unmounts to take a disk away. */
const KERNELS = ['/proc', '/sys', '/dev']

/**
 * Moves the main thread, and with it every program started later, into a mount namespace of its own with an empty
 * tmpfs on BASE, and of the host's mounts only those that the container shows and that we need ourselves. Threads that run
 * already stay outside: from here on no asynchronous call of `fs` may name a path. The working directory is `/` then.
 */
export function enterPrivateMounts({ rootfs, binds, runtime }: Plan): void {
  mkdirSync(BASE, { recursive: true, mode: 0o755 })
  const shown = rootfs === undefined ? hostPoints() : [rootfs]
  const trees = [...KERNELS, ...binds.map(({ source }) => source)]
  enterOwnMounts([...shown, BASE, runtime.path, ...programFiles(PROGRAMS)], trees)
  mount('tmpfs', BASE, 0n, `mode=0711,${LIMITS}`)
  for (const directory of [layout.root, layout.layers, layout.fresh, layout.bundle, layout.state]) {
    mkdirSync(directory, { mode: 0o711 })
  }
}

const hostPoints = (): readonly string[] =>
  hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))).map(({ point }) => point)
