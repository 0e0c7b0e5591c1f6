import { readFileSync } from 'node:fs'
import { parseIdMap } from '../../abi/id-map.ts'
import { closeRaw, type Fd } from '../../kernel/fd.ts'
import { socketpair } from '../../kernel/socket.ts'
import { requireOwnFiles } from '../../processes/build-id.ts'
import type { Child } from '../../processes/child.ts'
import { nodeProgram } from '../../processes/node-programs.ts'
import { processCaps } from '../../processes/process-caps.ts'
import type { WalkerTable } from '../tables/walker-table.ts'
import { exposePrograms } from './expose-programs.ts'
import { LIMITER, limitedTo } from './limited-exec.ts'
import type { SpawnGuard } from './spawn-guard.ts'
import { walkerMounts } from './walker-mounts.ts'

/** After this number of walkers that hung or died, a container gets no other walker. */
const ABANDONED_LIMIT = 2
/**
 * The value of fs.suid_dumpable that makes processes dumpable even if they execute an unreadable file: proc_sys_fs(5).
 */
const DUMPABLE_BY_ALL = '1'
const LINGER_MS = 5000
/**
 * When memory is short, containers lose their walkers first, before the engine is killed and all of them wait for the
 * next one.
 */
const WALKER_OOM_SCORE = 500

const CANNOT_HIDE =
  'Cannot start a walker: its container could trace it, for fs.suid_dumpable is 1, or there is one group id only'

/**
 * Returns the real group id with which nsenter(1) is executed: the last of our user namespace, which nobody uses.
 *
 * For a moment nsenter has the host's root ids inside the container's user namespace, whose root may trace any dumpable
 * process there. A process whose real group differs from the effective group at execve(2) is not dumpable, and its
 * memory belongs to our user namespace.
 *
 * @returns undefined if that does not work: there is no other group, or the kernel makes such processes dumpable
 * @see linux/fs/exec.c begin_new_exec(), linux/kernel/ptrace.c __ptrace_may_access()
 */
function realGroupApart(): number | undefined {
  if (readFileSync('/proc/sys/fs/suid_dumpable', 'latin1').trim() === DUMPABLE_BY_ALL) return undefined
  const last = parseIdMap(readFileSync('/proc/self/gid_map', 'latin1')).at(-1)
  const group = last && last.inside + last.count - 1
  return group === process.getegid!() ? undefined : group
}

/** Handles of the container's namespaces; they outlive its walkers. */
export interface Namespaces {
  readonly userns: Fd
  readonly pidns: Fd
}

interface ContainerWalker extends Namespaces {
  child: Child | undefined
  abandoned: number
}

/** Starts the walker of each container, in the main thread, when a thread first asks for it; see walker/main.ts. */
export class Walkers {
  readonly #table: WalkerTable
  readonly #spawnGuard: SpawnGuard
  readonly #fault: (message: string) => void
  readonly #walkers = new Map<number, ContainerWalker>()
  #isRefusalSaid = false

  constructor(table: WalkerTable, spawnGuard: SpawnGuard, fault: (message: string) => void) {
    this.#table = table
    this.#spawnGuard = spawnGuard
    this.#fault = fault
  }

  /** Allows walkers for a container. */
  admit(container: number, { userns, pidns }: Namespaces): void {
    this.#walkers.set(container, { userns, pidns, child: undefined, abandoned: 0 })
    this.#table.set(container, 'none')
  }

  /** Starts a container's walker if a thread wants it and there is none; the table wakes the threads that wait. */
  start(container: number): void {
    const walker = this.#walkers.get(container)
    if (!walker || this.#table.get(container) !== 'wanted') return
    if (walker.abandoned >= ABANDONED_LIMIT) {
      this.#table.set(container, 'never')
      return
    }
    requireOwnFiles()
    try {
      const apart = realGroupApart()
      if (apart === undefined) {
        this.#refuse(container)
        return
      }
      const [ours, theirs] = socketpair()
      using end = theirs
      const child = this.#spawn(walker, end, apart)
      walker.child = child
      child.endBeforeUs(WALKER_OOM_SCORE)
      void child.ended.then(() => this.#ended(container, child))
      this.#table.set(container, ours.release())
    } catch (error) {
      this.#fault(`Cannot start a walker: ${(error as Error).message}`)
      this.#table.set(container, 'none')
    }
  }

  #refuse(container: number): void {
    if (!this.#isRefusalSaid) this.#fault(CANNOT_HIDE)
    this.#isRefusalSaid = true
    this.#table.set(container, 'never')
  }

  /**
   * Gives up a walker that hangs. It cannot be killed while it hangs in the kernel; it exits by itself afterwards,
   * since its socket is closed.
   */
  abandon(container: number, raw: number): void {
    const walker = this.#walkers.get(container)
    if (!walker || this.#table.get(container) !== raw) return
    walker.abandoned++
    walker.child = undefined
    this.#close(container, walker.abandoned >= ABANDONED_LIMIT ? 'never' : 'none')
  }

  forget(container: number): void {
    const walker = this.#walkers.get(container)
    if (!walker) return
    this.#walkers.delete(container)
    this.#close(container, 'never')
  }

  /** @param apart a real group id which differs from our effective one: see `realGroupApart` */
  #spawn({ userns, pidns }: Namespaces, socket: Fd, apart: number): Child {
    const walker = nodeProgram('walker')
    const exposed = exposePrograms([walker.node, walker.main])
    const [node = '', main = ''] = exposed.paths
    using mounts = walkerMounts(exposed, [LIMITER])
    const enter = mounts ? ['--mount=/proc/self/fd/6', '--user=/proc/self/fd/4'] : ['--user=/proc/self/fd/4']
    // Entering a user namespace gives all capabilities there, so setpriv limits them after nsenter.
    const limited = limitedTo(processCaps.walker.permitted, ['--securebits=+no_setuid_fixup'])
    const command = ['nsenter', ...enter, '--', ...limited, node, ...walker.flags, main, walker.build]
    const fds = [socket, userns, pidns, ...(mounts ? [mounts] : [])]
    return this.#spawnGuard.startHelper(
      [LIMITER, `--rgid=${apart}`, '--keep-groups', '--', ...command],
      walker.how,
      fds,
    )
  }

  #ended(container: number, child: Child): void {
    const walker = this.#walkers.get(container)
    if (walker?.child !== child) return
    walker.child = undefined
    walker.abandoned++
    this.#close(container, 'none')
  }

  #close(container: number, next: 'none' | 'never'): void {
    const raw = this.#table.get(container)
    this.#table.set(container, next)
    // The close is delayed, since a thread which has just read the number may still send to it.
    if (typeof raw === 'number') setTimeout(() => closeRaw(raw), LINGER_MS)
  }
}
