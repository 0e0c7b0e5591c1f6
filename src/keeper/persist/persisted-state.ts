import { readFileSync } from 'node:fs'
import { deserialize, serialize } from 'node:v8'
import type { ContainerHandles } from '../../caller/identity/container.ts'
import { type Fd, setNonblocking } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { bytesFile, restrict } from '../../kernel/shared-memory.ts'
import type { RuntimeCall } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { Init } from '../../runtimes/inspect.ts'
import type { ServiceManager } from '../process/service-manager.ts'

/** Of what is stored: another one is not understood. */
export const FORMAT = 1

/** A container as it was when its keeper ended. */
export interface KeptContainer {
  readonly index: number
  readonly serial: number
  readonly handover: Handover
  readonly init: Init | undefined
}

/** A listener as the keeper before knew it. */
export interface KeptListener {
  readonly number: number
  readonly container: number
  readonly fd: Fd
}

/** Who goes on: another program in this process, or the next process of the service. */
export type StateStore = 'program' | 'process'

/** A descriptor of the vault. */
export interface KeptDescriptor {
  readonly place: number
  readonly container: number
  readonly fd: Fd
}

/** A socket on which we listen. */
export interface KeptSocket {
  readonly fd: Fd
  /** Nobody else has made it or keeps it: it is of no use without us. */
  readonly isOurs: boolean
}

/** A runtime that has connected and said nothing yet. */
export interface KeptConnection {
  readonly fd: Fd
  readonly runtime: RuntimeCall | undefined
}

interface Written {
  readonly format: number
  readonly of: unknown
}

type WrittenInit = Omit<Init, 'handles' | typeof Symbol.dispose> & {
  readonly handles: readonly (keyof ContainerHandles)[]
}
type WrittenContainer = Omit<KeptContainer, 'init' | 'index'> & { readonly init: WrittenInit | undefined }
type WrittenRuntime = Omit<RuntimeCall, 'mounts'> | undefined

/**
 * What must outlive the keeper, in the store of the service manager. The names are short, for systemd puts all of them into
 * one variable of the environment, which may have 128 KiB:
 *
 *   oci, lxc the sockets, oci.own, lxc.own where they end with the process | j the journal | m the lasting memory, vP.C what is kept at its place P for container C | cN what is said of container N, cN.H its handle H | lN.M listener N, of container M |
 *   gN a connection that was silent so far, gN.r what its runtime is, gN.m that one's mount namespace
 *
 * Connections of LXC's monitors are not here: a monitor connects anew with its next call, and says everything again.
 */
export class PersistedState {
  readonly #manager: ServiceManager | undefined
  readonly #restored: Map<string, Fd>
  #connections = 0

  constructor(manager: ServiceManager | undefined) {
    this.#manager = manager
    this.#restored = new Map()
    for (const { name, fd } of manager?.inherited ?? []) {
      this.#restored.get(name)?.[Symbol.dispose]()
      this.#restored.set(name, fd)
    }
  }

  /** The listening socket that a unit of this name has, or that was kept under it. */
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

  get journal(): Fd | undefined {
    return this.#memory('j')
  }

  keepJournal(journal: Handle): void {
    this.#manager?.remove('j')
    this.#manager?.store('j', journal)
  }

  get persistent(): Fd | undefined {
    return this.#memory('m')
  }

  keepPersistent(memory: Handle): void {
    this.#manager?.remove('m')
    this.#manager?.store('m', memory)
  }

  /** @param to the next process gets it from the service manager, which is late to close its own copy */
  keepDescriptor({ place, container, fd }: KeptDescriptor, to: StateStore): void {
    const name = `v${place}.${container}`
    if (to === 'process') this.#manager?.store(name, fd)
    else this.#manager?.hold(name, fd)
  }

  dropDescriptor(place: number, container: number): void {
    this.#manager?.remove(`v${place}.${container}`)
  }

  /** They are to be kept anew. */
  descriptors(): readonly KeptDescriptor[] {
    return this.#numbers(/^v(\d+)\.(\d+)$/).map(([name, place, container]) => {
      this.#manager?.remove(name)
      return { place: place!, container: container!, fd: this.#take(name)! }
    })
  }

  keepContainer({ index, serial, handover, init }: KeptContainer): void {
    if (!this.#manager) return
    const handles = Object.keys(init?.handles ?? {}) as (keyof ContainerHandles)[]
    const written: WrittenContainer = { serial, handover, init: init && { ...plain(init), handles } }
    this.#write(`c${index}`, written)
    for (const [place, name] of handles.entries()) this.#manager.store(`c${index}.${place}`, init!.handles[name]!)
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

  /** @returns what forgets it again */
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

  /** @param failed told why one cannot be taken over */
  containers(failed: (message: string) => void): readonly KeptContainer[] {
    return this.#numbers(/^c(\d+)$/).flatMap(([name, index]) => {
      try {
        const { init, handover, serial } = this.#read(name) as WrittenContainer
        return [{ handover, serial, index: index!, init: init && this.#init(name, init) }]
      } catch (error) {
        failed((error as Error).message)
        this.#manager?.remove(name)
        return []
      }
    })
  }

  listeners(): readonly KeptListener[] {
    return this.#numbers(/^l(\d+)\.(\d+)$/).map(([name, number, container]) => {
      return { number: number!, container: container!, fd: this.#take(name)! }
    })
  }

  /** They are to be kept anew. */
  connections(): readonly KeptConnection[] {
    return this.#numbers(/^g(\d+)$/).map(([name]) => {
      const said = this.#read(`${name}.r`) as WrittenRuntime
      const mounts = this.#take(`${name}.m`)
      for (const each of [name, `${name}.r`, `${name}.m`]) this.#manager?.remove(each)
      return { fd: this.#take(name)!, runtime: said && { ...said, mounts } }
    })
  }

  /** What nobody has taken is of no use to anybody. */
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
    if (missing) throw new Error(`Cannot take over container ${container}: its ${missing[0]} is not there`)
    return {
      ...written,
      handles,
      [Symbol.dispose]: () => {
        for (const [, fd] of held) fd![Symbol.dispose]()
      },
    }
  }

  #write(name: string, of: unknown): void {
    using file = bytesFile(`intercede-${name}`, serialize({ format: FORMAT, of } satisfies Written))
    this.#manager!.store(name, file)
  }

  /** Only ever our own bytes: nobody but the manager, which is root, can put anything there. */
  #read(name: string): unknown {
    using file = this.#take(name)
    if (!file) throw new Error(`Cannot take over what an earlier intercede left: there is no ${name}`)
    const { format, of } = deserialize(readFileSync(`/proc/self/fd/${file.raw}`)) as Written
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

  /** An earlier intercede may have left it open to all. */
  #memory(name: string): Fd | undefined {
    const memory = this.#take(name)
    if (memory) restrict(memory)
    return memory
  }

  #take(name: string): Fd | undefined {
    const fd = this.#restored.get(name)
    this.#restored.delete(name)
    return fd
  }
}

/** Without what cannot be written. */
function plain({ usernsInode, uidMap, gidMap, startedMs, walkable, exec, barred }: Init): Omit<WrittenInit, 'handles'> {
  return { usernsInode, uidMap, gidMap, startedMs, walkable, exec, barred }
}
