import { readFileSync } from 'node:fs'
import { parseIdMap } from '../../abi/credentials.ts'
import { orFalse } from '../../kernel/error.ts'
import { type Fd, orClose } from '../../kernel/fd.ts'
import { pidfdOpen, releaseMemory } from '../../kernel/pidfd.ts'
import type { Ending } from '../../kernel/process.ts'
import { shutdown, socketpair } from '../../kernel/socket.ts'
import { MANY_HANG, poolShare, WALKERS } from '../../link/limits.ts'
import { requireOwnFiles } from '../../processes/build-id.ts'
import { type Child, wasKilled } from '../../processes/child.ts'
import { nodeProgram } from '../../processes/node-programs.ts'
import { processCaps } from '../../processes/process-caps.ts'
import type { WalkerTable } from '../tables/walker-table.ts'
import { LIMITER, limitedTo, type SpawnGuard } from './spawn-guard.ts'
import { exposePrograms, walkerMounts } from './walker-mounts.ts'

/** After this number of walkers that hung or died, a container gets no other walker; after one, once many hang. */
const ABANDONED_LIMIT = 2
/** The value of fs.suid_dumpable with which processes are dumpable that execute an unreadable file: proc_sys_fs(5). */
const DUMPABLE_BY_ALL = '1'
/** After so long no thread uses a socket any more, and no message of a thread names its number. */
const LINGER_MS = 5000
const IDLE_MS = 60_000
/** How often to look for walkers that are idle. */
const LOOK_MS = 10_000
/** How often to look for an idle walker while a container waits for a place. */
const RETRY_MS = 20
/** When memory is short, containers lose their walkers before all of them wait for the next engine. */
const WALKER_OOM_SCORE = 500

const CANNOT_HIDE =
  'Cannot start a walker: its container could trace it, because fs.suid_dumpable is 1 or the container has only one group id'

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

/** Releases the memory of a process that was killed. @returns false if it has some until it ends */
function hasNoMemory({ pid }: Child): boolean {
  return orFalse('any', () => {
    using pidfd = pidfdOpen(pid)
    return releaseMemory(pidfd)
  })
}

/** Handles of the container's namespaces; they outlive its walkers. */
export interface Namespaces {
  readonly userns: Fd
  readonly pidns: Fd
}

interface Place extends Namespaces {
  walker: Walker | undefined
  /** How many of its walkers have hung, or have ended by what they did for it. */
  abandoned: number
}

interface Walker {
  readonly child: Child
  readonly socket: Fd
  readonly container: number
  readonly place: Place
  /** ends: we have closed its socket. hangs: we have killed it. */
  state: 'serves' | 'ends' | 'hangs'
}

/**
 * Starts the walker of each container, in the main thread, when a thread first asks for it; see walker/main.ts. There
 * are at most `WALKERS`: for one more, that which is idle and was used least recently ends. One that is idle for
 * `IDLE_MS` ends, too.
 */
export class Walkers {
  readonly #table: WalkerTable
  readonly #spawnGuard: SpawnGuard
  readonly #fault: (message: string) => void
  readonly #places = new Map<number, Place>()
  /** Those that have memory. */
  readonly #alive = new Set<Walker>()
  /** Containers that wait for a place. */
  readonly #queue = new Set<number>()
  #hanging = 0
  #retry: NodeJS.Timeout | undefined
  #look: NodeJS.Timeout | undefined
  #isRefusalSaid = false

  constructor(table: WalkerTable, spawnGuard: SpawnGuard, fault: (message: string) => void) {
    this.#table = table
    this.#spawnGuard = spawnGuard
    this.#fault = fault
  }

  admit(container: number, { userns, pidns }: Namespaces): void {
    this.#places.set(container, { userns, pidns, walker: undefined, abandoned: 0 })
    this.#table.set(container, 'none')
  }

  /**
   * Starts a container's walker if a thread wants it and there is none, as soon as there is a place. The table wakes
   * the threads that wait.
   */
  start(container: number): void {
    this.#queue.add(container)
    this.#serve()
  }

  #serve(): void {
    clearTimeout(this.#retry)
    for (const container of this.#queue) {
      const place = this.#places.get(container)
      const isWanted = place && this.#table.get(container) === 'wanted'
      if (isWanted && this.#alive.size >= WALKERS) {
        this.#makeRoom()
        this.#retry = setTimeout(() => this.#serve(), RETRY_MS)
        return
      }
      this.#queue.delete(container)
      if (!isWanted) continue
      if (place.abandoned < this.#abandonedLimit) this.#start(container, place)
      else this.#table.set(container, 'never')
    }
  }

  get #abandonedLimit(): number {
    return poolShare(this.#hanging, MANY_HANG, ABANDONED_LIMIT)
  }

  /** Ends as many idle walkers as containers wait; those that end already count. */
  #makeRoom(): void {
    const all = [...this.#alive]
    const idle = all
      .filter(({ state, container }) => state === 'serves' && !this.#table.isUsed(container))
      .sort((a, b) => this.#table.idleFor(b.container) - this.#table.idleFor(a.container))
    const ending = all.filter(({ state }) => state === 'ends').length
    for (const walker of idle.slice(0, Math.max(0, this.#queue.size - ending))) this.#close(walker, 'none')
  }

  #closeIdle(): void {
    for (const walker of this.#alive) {
      const { container, state } = walker
      const isIdle = !this.#table.isUsed(container) && this.#table.idleFor(container) >= IDLE_MS
      if (isIdle && state === 'serves') this.#close(walker, 'none')
    }
    if (this.#alive.size > 0) return
    clearInterval(this.#look)
    this.#look = undefined
  }

  #start(container: number, place: Place): void {
    requireOwnFiles()
    try {
      const apart = realGroupApart()
      if (apart === undefined) {
        this.#refuse(container)
        return
      }
      const [ours, theirs] = socketpair()
      using end = theirs
      const child = orClose([ours], () => this.#spawn(place, end, apart))
      const walker: Walker = { child, socket: ours, container, place, state: 'serves' }
      place.walker = walker
      this.#alive.add(walker)
      this.#look ??= setInterval(() => this.#closeIdle(), LOOK_MS)
      child.endBeforeUs(WALKER_OOM_SCORE)
      void child.ended.then((ending) => this.#ended(walker, ending))
      this.#table.started(container, ours.raw, child.pid)
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
   * Gives up a walker. One that hangs in the kernel ends later, but its memory is free at once: only then others have
   * its place. How one has ended is judged when it is reaped.
   */
  abandon(container: number, raw: number, hasEnded: boolean): void {
    const walker = this.#places.get(container)?.walker
    if (!walker || this.#table.get(container) !== raw) return
    if (hasEnded) {
      this.#detach(walker, 'none')
      return
    }
    const { place, child } = walker
    place.abandoned++
    walker.state = 'hangs'
    this.#hanging++
    this.#detach(walker, place.abandoned >= this.#abandonedLimit ? 'never' : 'none')
    child.kill('SIGKILL')
    if (hasNoMemory(child)) this.#alive.delete(walker)
  }

  forget(container: number): void {
    const place = this.#places.get(container)
    if (!place) return
    this.#places.delete(container)
    if (place.walker) this.#close(place.walker, 'never')
    this.#table.set(container, 'never')
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

  /**
   * A walker has ended. No process of a container can kill it: the kernel does so when memory is short, or root of the
   * host. Only other ends count for the container.
   */
  #ended(walker: Walker, ending: Ending): void {
    this.#alive.delete(walker)
    if (walker.state === 'hangs') this.#hanging--
    if (walker.state === 'serves' && !wasKilled(ending)) walker.place.abandoned++
    if (walker.place.walker === walker) this.#detach(walker, 'none')
    this.#serve()
  }

  /** Lets a walker end, at once if no thread uses it. */
  #close(walker: Walker, next: 'none' | 'never'): void {
    walker.state = 'ends'
    this.#detach(walker, next)
    if (!this.#table.isUsed(walker.container)) shutdown(walker.socket)
  }

  /** Lets no thread begin to use a walker any more. */
  #detach({ socket, container, place }: Walker, next: 'none' | 'never'): void {
    place.walker = undefined
    this.#table.set(container, next)
    setTimeout(() => socket[Symbol.dispose](), LINGER_MS)
  }
}
