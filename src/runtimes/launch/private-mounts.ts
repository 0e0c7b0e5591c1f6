import { mkdirSync } from 'node:fs'
import { MS_PRIVATE, MS_REC, mount } from '../../kernel/mount.ts'
import { CLONE_NEWNS, unshare } from '../../kernel/namespaces.ts'
import { BASE, layout } from './layout.ts'

/** All that a container writes to its default root lies in memory: bounded in bytes and in inodes. */
const LIMITS = 'size=25%,nr_inodes=1m'

/**
 * Moves the main thread, and with it every program started later, into a mount namespace of its own with an empty
 * tmpfs on BASE. Threads that run already stay outside: from here on no asynchronous call of `fs` may name a path.
 */
export function enterPrivateMounts(): void {
  mkdirSync(BASE, { recursive: true, mode: 0o755 })
  unshare(CLONE_NEWNS)
  mount('none', '/', MS_REC | MS_PRIVATE)
  mount('tmpfs', BASE, 0, `mode=0711,${LIMITS}`)
  for (const directory of [layout.root, layout.layers, layout.fresh, layout.bundle, layout.state]) {
    mkdirSync(directory, { mode: 0o711 })
  }
}
