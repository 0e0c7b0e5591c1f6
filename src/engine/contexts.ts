import type { Tid } from '../abi/brand.ts'
import type { Context, Holder, IsHeld, Keeping, Kept, Parameter, Unplaced } from '../calls/context.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import { ENTRY_BYTES, Entries } from './entries.ts'

/** Of all containers, and of one; a program has one at a time, and for a moment. */
const ENTRIES = 256
const ENTRIES_PER_CONTAINER = 8
/** As many bytes of parameters as mount(2) takes: a page. */
const PARAMETERS = 4096
/** Whoever was not told in that time who has it was not given to anybody. */
const GIVEN_S = 2
const KIND = { context: 0, mount: 1, failed: 2 } as const
const CONTEXTS: readonly number[] = [KIND.context, KIND.failed]
const MOUNTS: readonly number[] = [KIND.mount]
const NO_VALUE = 0xffff

export const CONTEXT_BYTES = ENTRIES * (ENTRY_BYTES + PARAMETERS)

/** What an entry is made of. */
interface New {
  readonly kind: number
  readonly opened: Fd
  readonly made?: Fd | undefined
  readonly type?: string
}

/**
 * What containers do with fsopen(2) and what follows it, in memory that the threads share. A container holds a context that
 * nothing is ever made of; we hold a copy, by which we know it again, what it was told, and later the context of ours in
 * which the file system was made. Then the mount, which would vanish if we did not hold it until it stands somewhere.
 */
export class Contexts implements Keeping {
  readonly #entries: Entries
  readonly #bytes: Uint8Array
  readonly #seconds: () => number

  constructor(memory: SharedArrayBuffer, seconds: () => number = () => Math.trunc(process.uptime())) {
    this.#entries = new Entries(memory, ENTRIES)
    this.#bytes = new Uint8Array(memory, ENTRIES * ENTRY_BYTES)
    this.#seconds = seconds
  }

  addContext(container: number, opened: Fd, type: string): ((holder: Holder) => void) | undefined {
    return this.#add(container, { kind: KIND.context, opened, type })
  }

  addMount(container: number, tree: Fd, free: Fd | undefined): ((holder: Holder) => void) | undefined {
    return this.#add(container, { kind: KIND.mount, opened: tree, made: free })
  }

  findContext(container: number, isIt: (opened: Handle) => boolean): Context | 'busy' | undefined {
    const index = this.#find(container, CONTEXTS, isIt)
    return typeof index === 'number' ? this.#context(index) : index
  }

  findMount(container: number, isIt: (tree: Handle) => boolean): Unplaced | 'busy' | undefined {
    const index = this.#find(container, MOUNTS, isIt)
    return typeof index === 'number' ? { ...this.#kept(index), free: this.#entries.made(index) } : index
  }

  has(container: number): boolean {
    return this.#of(container).length > 0
  }

  get size(): number {
    return this.#entries.owned.length
  }

  tidy(container: number | undefined, isHeld: IsHeld): void {
    const entries = this.#entries
    for (const index of container === undefined ? entries.owned : this.#of(container)) {
      // To look at a mount is to hold it for a moment: not while its caller is about to place it.
      if (container === undefined && this.#age(index) <= GIVEN_S) continue
      if (!entries.tryLock(index)) continue
      if (!this.#isHeld(index, isHeld)) entries.doom(index)
      entries.unlock(index)
    }
  }

  forget(container: number): void {
    for (const index of this.#of(container)) this.#entries.drop(index)
  }

  #age(index: number): number {
    return this.#seconds() - this.#entries.get(index, 'born')
  }

  #isHeld(index: number, isHeld: IsHeld): boolean {
    const entries = this.#entries
    const holder = { process: entries.get(index, 'holder') as Tid, fd: entries.get(index, 'holderFd') }
    if (holder.process === 0) return this.#age(index) <= GIVEN_S
    const kind = entries.get(index, 'kind') === KIND.mount ? 'mount' : 'context'
    return isHeld(kind, entries.opened(index), holder)
  }

  #add(container: number, what: New): ((holder: Holder) => void) | undefined {
    const entries = this.#entries
    const own = this.#of(container).sort((a, b) => entries.get(a, 'born') - entries.get(b, 'born'))
    if (own.length >= ENTRIES_PER_CONTAINER) entries.drop(own[0]!)
    const index = entries.lockFree()
    if (index === undefined) return undefined
    this.#fill(index, container, what)
    const tell = this.#tell(index)
    entries.unlock(index)
    return tell
  }

  #fill(index: number, container: number, { kind, opened, made, type = '' }: New): void {
    const entries = this.#entries
    entries.renew(index, opened, made)
    entries.set(index, 'kind', kind)
    entries.set(index, 'holder', 0)
    entries.set(index, 'length', 0)
    entries.set(index, 'born', this.#seconds())
    this.#append(index, [type])
    entries.set(index, 'owner', container + 1)
  }

  /** The entry may be another one by then. */
  #tell(index: number): (holder: Holder) => void {
    const entries = this.#entries
    const serial = entries.serial(index)
    return ({ process, fd }) => {
      if (!entries.lock(index)) return
      if (entries.serial(index) === serial) {
        entries.set(index, 'holderFd', fd)
        entries.set(index, 'holder', process)
      }
      entries.unlock(index)
    }
  }

  #find(container: number, kinds: readonly number[], isIt: (opened: Handle) => boolean): number | 'busy' | undefined {
    const entries = this.#entries
    const matches = (index: number): boolean =>
      entries.get(index, 'owner') === container + 1 &&
      kinds.includes(entries.get(index, 'kind')) &&
      !entries.isDoomed(index) &&
      isIt(entries.opened(index))
    const index = this.#of(container).find(matches)
    if (index === undefined) return undefined
    if (!entries.lock(index)) return 'busy'
    // Another call may have ended it in between, and something else may have its descriptor.
    if (matches(index)) return index
    entries.unlock(index)
    return undefined
  }

  #kept(index: number): Kept {
    const entries = this.#entries
    return {
      handle: entries.opened(index),
      end: () => entries.doom(index),
      [Symbol.dispose]: () => entries.unlock(index),
    }
  }

  #context(index: number): Context {
    const at = index * PARAMETERS
    const told = this.#bytes.slice(at, at + this.#entries.get(index, 'length'))
    const [type, ...parameters] = decode(Buffer.from(told))
    return {
      ...this.#kept(index),
      type: type![0],
      parameters,
      made: this.#entries.made(index),
      add: (parameter) => this.#append(index, parameter),
      keep: (context) => this.#entries.keep(index, context),
      fail: () => this.#entries.set(index, 'kind', KIND.failed),
      hasFailed: this.#entries.get(index, 'kind') === KIND.failed,
    }
  }

  #append(index: number, parameter: Parameter): boolean {
    const length = this.#entries.get(index, 'length')
    const record = encode(parameter)
    if (length + record.length > PARAMETERS) return false
    this.#bytes.set(record, index * PARAMETERS + length)
    this.#entries.set(index, 'length', length + record.length)
    return true
  }

  #of(container: number): number[] {
    return this.#entries.owned.filter((index) => this.#entries.get(index, 'owner') === container + 1)
  }
}

/** `u16 length of the key | u16 length of the value, or NO_VALUE | key | value` */
function encode([key, value]: Parameter): Buffer {
  const record = Buffer.alloc(4 + key.length + (value?.length ?? 0))
  record.writeUInt16LE(key.length, 0)
  record.writeUInt16LE(value?.length ?? NO_VALUE, 2)
  record.write(key, 4, 'latin1')
  record.write(value ?? '', 4 + key.length, 'latin1')
  return record
}

function decode(all: Buffer): Parameter[] {
  const parameters: Parameter[] = []
  for (let at = 0; at < all.length; ) {
    const [key, value] = [all.readUInt16LE(at), all.readUInt16LE(at + 2)]
    const middle = at + 4 + key
    const end = middle + (value === NO_VALUE ? 0 : value)
    const name = all.toString('latin1', at + 4, middle)
    parameters.push(value === NO_VALUE ? [name] : [name, all.toString('latin1', middle, end)])
    at = end
  }
  return parameters
}
