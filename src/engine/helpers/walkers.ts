import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { parseIdMap } from '../../abi/id-map.ts'
import { build, requireOwnFiles } from '../../kernel/build.ts'
import { closeRaw, type Fd } from '../../kernel/fd.ts'
import { socketpair } from '../../kernel/socket.ts'
import { processCaps } from '../../processes/process-caps.ts'
import { SEARCH_PATH } from '../../processes/program-files.ts'
import type { WalkerTable } from '../tables/walker-table.ts'
import { exposePrograms } from './expose-programs.ts'
import { LIMITER, limitedTo } from './limited-exec.ts'
import type { SpawnGuard } from './spawn-guard.ts'
import { walkerMounts } from './walker-mounts.ts'

/** Walkers of one container that hung and were left alone: after that many it gets no other. */
const ABANDONED_LIMIT = 2
/** `suid_dumpable` in proc_sys_fs(5). */
const DUMPABLE_BY_ALL = '1'
const FLAGS = ['--max-semi-space-size=1', '--stack-trace-limit=0']
const LINGER_MS = 5000
const MAIN = new URL(`../../walker/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

const CANNOT_HIDE =
  'Cannot start a walker: its container could trace it, for fs.suid_dumpable is 1, or there is one group id only'

/**
 * The real group of nsenter(1), which is root of the host still for a moment in the user namespace of a container, whose root
 * may trace there whatever is dumpable. A program that is executed while the real group is not the effective one is not, and
 * its memory belongs to our own user namespace. The last group of that: on the host nobody has it.
 *
 * @returns undefined if no such program can be made: there is no other group, or the kernel makes them dumpable all the same
 * @see linux/fs/exec.c begin_new_exec(), linux/kernel/ptrace.c __ptrace_may_access()
 */
function realGroupApart(): number | undefined {
  if (readFileSync('/proc/sys/fs/suid_dumpable', 'latin1').trim() === DUMPABLE_BY_ALL) return undefined
  const last = parseIdMap(readFileSync('/proc/self/gid_map', 'latin1')).at(-1)
  const group = last && last.inside + last.count - 1
  return group === process.getegid!() ? undefined : group
}

/** Of the container, by handles that outlive its walker. */
export interface Namespaces {
  readonly userns: Fd
  readonly pidns: Fd
}

interface Place extends Namespaces {
  child: ChildProcess | undefined
  abandoned: number
}

/** The walkers, started by the main thread when a thread asks for the first time; see walker/main.ts. */
export class Walkers {
  readonly #table: WalkerTable
  readonly #spawnGuard: SpawnGuard
  readonly #fault: (message: string) => void
  readonly #places = new Map<number, Place>()
  #isRefusalSaid = false

  constructor(table: WalkerTable, spawnGuard: SpawnGuard, fault: (message: string) => void) {
    this.#table = table
    this.#spawnGuard = spawnGuard
    this.#fault = fault
  }

  /** A container that may have a walker. */
  admit(container: number, { userns, pidns }: Namespaces): void {
    this.#places.set(container, { userns, pidns, child: undefined, abandoned: 0 })
    this.#table.set(container, 'none')
  }

  /** Starts one, unless there is one; the threads that wait for it are woken. */
  start(container: number): void {
    const place = this.#places.get(container)
    if (!place || this.#table.get(container) !== 'wanted') return
    if (place.abandoned >= ABANDONED_LIMIT) {
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
      const child = this.#spawn(place, end, apart)
      place.child = child
      child.on('error', (error) => this.#fault(`Cannot start a walker: ${error.message}`))
      child.on('exit', () => this.#ended(container, child))
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

  /** The walker hangs. It ends by itself when it comes back, for its socket is closed; it cannot be killed where it hangs. */
  abandon(container: number, raw: number): void {
    const place = this.#places.get(container)
    if (!place || this.#table.get(container) !== raw) return
    place.abandoned++
    place.child = undefined
    this.#close(container, place.abandoned >= ABANDONED_LIMIT ? 'never' : 'none')
  }

  forget(container: number): void {
    const place = this.#places.get(container)
    if (!place) return
    this.#places.delete(container)
    place.child?.removeAllListeners('exit')
    this.#close(container, 'never')
  }

  /** @param apart a group that is not ours, see `realGroupApart` */
  #spawn({ userns, pidns }: Namespaces, socket: Fd, apart: number): ChildProcess {
    const how = exposePrograms([process.execPath, MAIN.pathname])
    const [node = '', main = ''] = how.paths
    using mounts = walkerMounts(how, [LIMITER])
    const enter = mounts ? ['--mount=/proc/self/fd/6', '--user=/proc/self/fd/4'] : ['--user=/proc/self/fd/4']
    // To enter a user namespace gives all capabilities there, so they are limited after that.
    const limited = limitedTo(processCaps.walker.permitted, ['--securebits=+no_setuid_fixup'])
    const command = ['nsenter', ...enter, '--', ...limited, node, ...FLAGS, main, build]
    return this.#spawnGuard.spawn(LIMITER, [`--rgid=${apart}`, '--keep-groups', '--', ...command], {
      stdio: ['ignore', 'ignore', 'inherit', socket.raw, userns.raw, pidns.raw, ...(mounts ? [mounts.raw] : [])],
      env: { UV_USE_IO_URING: '0', TZ: 'UTC', PATH: SEARCH_PATH },
      cwd: '/',
    })
  }

  #ended(container: number, child: ChildProcess): void {
    const place = this.#places.get(container)
    if (place?.child !== child) return
    place.child = undefined
    place.abandoned++
    this.#close(container, 'none')
  }

  #close(container: number, next: 'none' | 'never'): void {
    const raw = this.#table.get(container)
    this.#table.set(container, next)
    // Not at once: a thread that has just read the number may still send to it.
    if (typeof raw === 'number') setTimeout(() => closeRaw(raw), LINGER_MS)
  }
}
