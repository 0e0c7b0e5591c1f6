import { readFileSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import type { ContainerHandles } from '../../caller/identity/container.ts'
import { orElse } from '../../kernel/error.ts'
import { type Fd, type Handle, setNonblocking } from '../../kernel/fd.ts'
import { bytesFile } from '../../kernel/shared-memory.ts'
import { JOURNAL_LAYOUT } from '../../link/journal.ts'
import type { Settings } from '../../policy/settings.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { Init } from '../../runtimes/inspect.ts'
import type { SetKey } from '../process/events.ts'
import type { ServiceManager } from '../process/service-manager.ts'

/** Version of the format in which containers and connections are stored. */
const VERSION = 1
/** The format of all that a keeper stores: containers, connections, calls in flight. The next keeper reads no other. */
export const FORMAT = `${VERSION}.${JOURNAL_LAYOUT}`

/** The memories that outlive the keeper, by their names in the store. */
const MEMORIES = { journal: 'j', records: 'r', counts: 'n', directory: 'd', lasting: 'm' } as const
export type MemoryName = keyof typeof MEMORIES

/** A container as the previous keeper stored it. */
export interface KeptContainer {
  readonly index: number
  readonly serial: number
  readonly handover: Handover
  readonly init: Init | undefined
  /** The keys in effect. */
  readonly settings: Settings
  /** What was set while the container ran. */
  readonly set: readonly SetKey[]
  /** As in `Container`. */
  readonly rtHighest?: number
  readonly mayHaveTokens?: boolean
}

/** What is kept of a container of LXC that lives on without a connection of its monitor. */
export interface LxcSet {
  /** The pidfd of its init. */
  readonly init: Fd
  readonly set: readonly SetKey[]
  /** As in `Container`. */
  readonly mayHaveTokens?: boolean
}

/** A listener as the previous keeper stored it. */
export interface KeptListener {
  readonly number: number
  readonly container: number
  readonly fd: Fd
}

/** The successor that state is stored for: another program in this process, or the next process of the service. */
export type StateStore = 'program' | 'process'

/** A descriptor of the keeper's table, see `KeeperFdTable`. */
export interface KeptDescriptor {
  readonly place: number
  readonly container: number
  readonly fd: Fd
}

/** A socket on which runtimes connect. */
export interface KeptSocket {
  readonly fd: Fd
  /** True if no service manager keeps the socket: then we remove its file on exit. */
  readonly isOurs: boolean
}

/** A connection of a runtime that has sent nothing yet. */
export interface KeptConnection {
  readonly fd: Fd
  readonly runtime: RuntimeCall | undefined
}

interface StoredFile {
  readonly format: string
  readonly of: unknown
}

type WrittenInit = Omit<Init, 'handles' | typeof Symbol.dispose> & {
  readonly handles: readonly (keyof ContainerHandles)[]
}
const handlesOf = (init: Init | undefined): readonly (keyof ContainerHandles)[] =>
  Object.keys(init?.handles ?? {}) as (keyof ContainerHandles)[]

type WrittenContainer = Omit<KeptContainer, 'init' | 'index'> & { readonly init: WrittenInit | undefined }
type WrittenRuntime = Omit<RuntimeCall, 'mounts'> | undefined

/**
 * Stores what must outlive the keeper in the file descriptor store of the service manager, under these names:
 *
 *   oci, lxc, feed    listening sockets
 *   oci.own, ...      the same, if no service manager keeps them: their files are removed at the end
 *   j                 journal
 *   r                 ring of records
 *   n                 counts
 *   d                 directory
 *   m                 persistent memory
 *   vP.C              descriptor at place P of the persistent memory, of container C
 *   cN                container N (a file: handover, init, serial, settings, set)
 *   cN~               what has changed of container N, while it takes the place of cN
 *   cN.H              handle number H of the init of container N, in the order of the names in cN
 *   lN.C              listener N, of container C
 *   pN                what was set for the container of LXC whose init has number N, and whether it may have BPF tokens
 *   pN.i              the pidfd of that init
 *   aN                connection N of an administrator who waits for the end of a reload
 *   gN                connection N, on which nothing was sent so far
 *   gN.r              its runtime (a file)
 *   gN.m              mount namespace of its runtime
 *
 * Names are short because systemd passes all of them in one environment variable, which holds 128 KiB at most.
 * Connections of LXC's monitors are not stored: a monitor connects again with its next call, and sends everything
 * again.
 */
export class PersistedState {
  readonly #manager: ServiceManager | undefined
  readonly #restored: Map<string, Fd>
  #connections = 0
  /** The names of what is stored of `LxcSet`. */
  #lxcSets: string[] = []

  constructor(manager: ServiceManager | undefined) {
    this.#manager = manager
    this.#restored = new Map()
    for (const { name, fd } of manager?.inherited ?? []) {
      this.#restored.get(name)?.[Symbol.dispose]()
      this.#restored.set(name, fd)
    }
  }

  /** Takes the listening socket of the systemd unit with this name, or the previous keeper's. */
  socket(name: string): KeptSocket | undefined {
    const own = this.#take(`${name}.own`)
    const fd = own ?? this.#take(name)
    if (!fd) return undefined
    setNonblocking(fd.raw)
    return { fd, isOurs: own !== undefined }
  }

  keepSocket(name: string, fd: Fd): KeptSocket {
    const isOurs = this.#manager?.isThere !== true
    this.#manager?.store(isOurs ? `${name}.own` : name, fd)
    return { fd, isOurs }
  }

  memory(name: MemoryName): Fd | undefined {
    return this.#take(MEMORIES[name])
  }

  keepMemory(name: MemoryName, memory: Handle): void {
    this.#manager?.remove(MEMORIES[name])
    this.#manager?.store(MEMORIES[name], memory)
  }

  /**
   * Stores a descriptor. Only the next process needs a copy in the service manager, which may close its copy
   * milliseconds late; until then a mount is busy.
   */
  keepDescriptor({ place, container, fd }: KeptDescriptor, to: StateStore): void {
    const name = `v${place}.${container}`
    if (to === 'process') this.#manager?.store(name, fd)
    else this.#manager?.hold(name, fd)
  }

  dropDescriptor(place: number, container: number): void {
    this.#manager?.remove(`v${place}.${container}`)
  }

  /** Takes the descriptors out of the store: the caller stores them again before it exits. */
  descriptors(): readonly KeptDescriptor[] {
    return this.#numbers(/^v(\d+)\.(\d+)$/).map(([name, place, container]) => {
      this.#manager?.remove(name)
      return { place: place!, container: container!, fd: this.#take(name)! }
    })
  }

  keepContainer(container: KeptContainer): void {
    if (!this.#manager) return
    const { index, init } = container
    for (const [place, name] of handlesOf(init).entries())
      this.#manager.store(`c${index}.${place}`, init!.handles[name]!)
    // Last: handles without it are removed at the next start.
    this.#writeContainer(`c${index}`, container)
  }

  /**
   * Stores the changes of a stored container; its handles stay. systemd removes all descriptors of a name at once, and
   * we may be killed between any two messages. So the change has another name until it is complete.
   */
  renewContainer(container: KeptContainer): void {
    const [name, beside] = [`c${container.index}`, `c${container.index}~`]
    if (!this.#manager?.has(name)) return
    this.#writeContainer(beside, container)
    this.#manager.remove(name)
    this.#writeContainer(name, container)
    this.#manager.remove(beside)
  }

  #writeContainer(name: string, { index: _, init, ...rest }: KeptContainer): void {
    const written: WrittenContainer = { ...rest, init: init && { ...plain(init), handles: handlesOf(init) } }
    this.#write(name, written)
  }

  /** Stores all of these, by the numbers of their inits, and no others. */
  keepLxcSets(all: ReadonlyMap<number, LxcSet>): void {
    for (const name of this.#lxcSets) this.#manager?.remove(name)
    this.#lxcSets = []
    if (!this.#manager) return
    for (const [pid, { init, ...kept }] of all) {
      this.#manager.store(`p${pid}.i`, init)
      // Last, as for a container.
      this.#write(`p${pid}`, kept)
      this.#lxcSets.push(`p${pid}.i`, `p${pid}`)
    }
  }

  /** Takes those that can be read. */
  lxcSets(): readonly (readonly [pid: number, set: LxcSet])[] {
    return this.#numbers(/^p(\d+)$/).flatMap(([name, pid]) => {
      const init = this.#take(`${name}.i`)
      this.#lxcSets.push(`${name}.i`, name)
      const kept = orElse(undefined, () => this.#read(name) as Omit<LxcSet, 'init'> | readonly SetKey[])
      // An earlier program has stored the keys alone.
      if (init && kept) return [[pid!, { init, ...('set' in kept ? kept : { set: kept }) }]]
      init?.[Symbol.dispose]()
      return []
    })
  }

  keepListener({ number, container, fd }: Omit<KeptListener, 'fd'> & { readonly fd: Handle }): void {
    this.#manager?.store(`l${number}.${container}`, fd)
  }

  dropListener(number: number, container: number): void {
    this.#manager?.remove(`l${number}.${container}`)
  }

  dropContainer(index: number, init: Init | undefined): void {
    this.#manager?.remove(`c${index}`)
    for (const place of Object.keys(init?.handles ?? {}).keys()) this.#manager?.remove(`c${index}.${place}`)
  }

  /** Stores a connection. @returns a function that removes it from the store */
  keepConnection(connection: Handle, runtime: RuntimeCall | undefined): () => void {
    const manager = this.#manager
    if (!manager) return () => {}
    const name = `g${this.#connections++}`
    const { mounts, ...said } = runtime ?? {}
    this.#write(`${name}.r`, runtime && (said as WrittenRuntime))
    if (mounts) manager.store(`${name}.m`, mounts)
    manager.store(name, connection)
    return () => {
      for (const each of [name, `${name}.r`, ...(mounts ? [`${name}.m`] : [])]) manager.remove(each)
    }
  }

  /** Takes the stored containers. @param failed called with the reason why a container cannot be taken over */
  containers(failed: (message: string) => void): readonly KeptContainer[] {
    this.#endChanges()
    return this.#numbers(/^c(\d+)$/).flatMap(([name, index]) => {
      try {
        const { init, ...written } = this.#read(name) as WrittenContainer
        return [{ ...written, index: index!, init: init && this.#init(name, init) }]
      } catch (error) {
        failed((error as Error).message)
        this.#manager?.remove(name)
        return []
      }
    })
  }

  /** Completes changes that the end of the previous keeper interrupted: the file beside a container is newer. */
  #endChanges(): void {
    for (const [beside, index] of this.#numbers(/^c(\d+)~$/)) {
      const name = `c${index}`
      const file = this.#take(beside)!
      this.#take(name)?.[Symbol.dispose]()
      this.#manager?.remove(name)
      // systemd keeps no file twice, not even under two names.
      using copy = bytesFile(`intercede-${name}`, readFileSync(`/proc/self/fd/${file.raw}`))
      this.#manager?.store(name, copy)
      this.#manager?.remove(beside)
      this.#restored.set(name, file)
    }
  }

  listeners(): readonly KeptListener[] {
    return this.#numbers(/^l(\d+)\.(\d+)$/).map(([name, number, container]) => {
      return { number: number!, container: container!, fd: this.#take(name)! }
    })
  }

  /**
   * Takes the connections out of the store: the caller stores those that it accepts again.
   *
   * @param failed called with the reason why a connection cannot be taken over; it is closed
   */
  connections(failed: (message: string) => void): readonly KeptConnection[] {
    return this.#numbers(/^g(\d+)$/).flatMap(([name]) => {
      const [fd, mounts] = [this.#take(name)!, this.#take(`${name}.m`)]
      for (const each of [name, `${name}.r`, `${name}.m`]) this.#manager?.remove(each)
      try {
        const said = this.#read(`${name}.r`) as WrittenRuntime
        return [{ fd, runtime: said && { ...said, mounts } }]
      } catch (error) {
        failed((error as Error).message)
        fd[Symbol.dispose]()
        mounts?.[Symbol.dispose]()
        return []
      }
    })
  }

  /** Stores the connection of an administrator for the next program. @returns a function that removes it */
  keepAsker(connection: Handle): () => void {
    const name = `a${this.#connections++}`
    this.#manager?.hold(name, connection)
    return () => this.#manager?.remove(name)
  }

  /** Takes the connections of administrators that wait for the end of the reload. */
  askers(): readonly Fd[] {
    return this.#numbers(/^a(\d+)$/).map(([name]) => {
      this.#manager?.remove(name)
      return this.#take(name)!
    })
  }

  /** Closes the inherited descriptors that were not taken, and removes them from the store. */
  close(): void {
    for (const [name, fd] of this.#restored) {
      this.#manager?.remove(name)
      fd[Symbol.dispose]()
    }
    this.#restored.clear()
  }

  #init(container: string, { handles: names, ...written }: WrittenInit): Init {
    const held = names.map((name, place) => [name, this.#take(`${container}.${place}`)] as const)
    const handles = Object.fromEntries(held) as unknown as Init['handles']
    const missing = held.find(([, fd]) => fd === undefined)
    if (missing) {
      for (const [place, [, fd]] of held.entries()) {
        fd?.[Symbol.dispose]()
        this.#manager?.remove(`${container}.${place}`)
      }
      throw new Error(`Cannot take over container ${container}: its ${missing[0]} is not there`)
    }
    return {
      ...written,
      handles,
      [Symbol.dispose]: () => {
        for (const [, fd] of held) fd![Symbol.dispose]()
      },
    }
  }

  #write(name: string, of: unknown): void {
    using file = bytesFile(`intercede-${name}`, serialize({ format: FORMAT, of } satisfies StoredFile))
    this.#manager!.store(name, file)
  }

  /** Deserializes a file. Its bytes are our own: only the service manager, which is root, can put files here. */
  #read(name: string): unknown {
    using file = this.#take(name)
    if (!file) throw new Error(`Cannot take over what an earlier intercede left: there is no ${name}`)
    const { format, of } = deserialize(readFileSync(`/proc/self/fd/${file.raw}`)) as StoredFile
    if (format !== FORMAT) throw new Error(`Cannot take over what an earlier intercede left: it has format ${format}`)
    return of
  }

  #numbers(pattern: RegExp): readonly (readonly [name: string, ...numbers: number[]])[] {
    const found = [...this.#restored.keys()].flatMap((name) => {
      const match = pattern.exec(name)
      return match ? [[name, ...match.slice(1).map(Number)] as const] : []
    })
    return found.sort(([, a], [, b]) => a! - b!)
  }

  #take(name: string): Fd | undefined {
    const fd = this.#restored.get(name)
    this.#restored.delete(name)
    return fd
  }
}

/** The properties of an init that can be serialized. */
function plain({ handles, [Symbol.dispose]: _, ...rest }: Init): Omit<WrittenInit, 'handles'> {
  return rest
}
