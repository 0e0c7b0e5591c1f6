import type { Tid } from '../abi/brand.ts'
import type { Context, Holder, IsHeld, Keeping, Kept, Parameter, Unplaced } from '../calls/context.ts'
import { closeRaw, Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'

/** Of all containers, and of one; a program has one at a time, and for a moment. */
const ENTRIES = 256
const ENTRIES_PER_CONTAINER = 8
/** As many bytes of parameters as mount(2) takes: a page. */
const PARAMETERS = 4096
/** Whoever was not told in that time who has it was not given to anybody. */
const GIVEN_S = 2
const LOCK_MS = 1000

const WORD = {
  lock: 0,
  owner: 1,
  kind: 2,
  opened: 3,
  made: 4,
  born: 5,
  length: 6,
  doomed: 7,
  holder: 8,
  holderFd: 9,
  serial: 10,
} as const
const WORDS = 11
const KIND = { context: 0, mount: 1 } as const
const NONE = -1
const NO_VALUE = 0xffff

/** What an entry is made of; the descriptors are owned by it. */
interface Kind {
  readonly kind: number
  readonly opened: Fd
  readonly made?: Fd | undefined
  readonly type?: string
}

export const CONTEXT_BYTES = ENTRIES * (4 * WORDS + PARAMETERS)

/**
 * What containers do with fsopen(2) and what follows it, in memory that the threads share. A container holds a context that
 * nothing is ever made of; we hold a copy, by which we know it again, what it was told, and later the context of ours in
 * which the file system was made. Then the mount, which would vanish if we did not hold it until it stands somewhere.
 */
export class Contexts implements Keeping {
  readonly #words: Int32Array
  readonly #bytes: Uint8Array
  readonly #seconds: () => number

  constructor(memory: SharedArrayBuffer, seconds: () => number = () => Math.trunc(process.uptime())) {
    this.#words = new Int32Array(memory, 0, ENTRIES * WORDS)
    this.#bytes = new Uint8Array(memory, 4 * ENTRIES * WORDS)
    this.#seconds = seconds
  }

  addContext(container: number, opened: Fd, type: string): ((holder: Holder) => void) | undefined {
    return this.#add(container, { kind: KIND.context, opened, type })
  }

  addMount(container: number, tree: Fd, free: Fd | undefined): ((holder: Holder) => void) | undefined {
    return this.#add(container, { kind: KIND.mount, opened: tree, made: free })
  }

  findContext(container: number, isIt: (opened: Handle) => boolean): Context | 'busy' | undefined {
    const index = this.#find(container, KIND.context, isIt)
    return typeof index === 'number' ? this.#context(index) : index
  }

  findMount(container: number, isIt: (tree: Handle) => boolean): Unplaced | 'busy' | undefined {
    const index = this.#find(container, KIND.mount, isIt)
    return typeof index === 'number' ? { ...this.#kept(index), free: this.#made(index) } : index
  }

  has(container: number): boolean {
    return this.#of(container).length > 0
  }

  tidy(container: number | undefined, isHeld: IsHeld): void {
    for (const index of container === undefined ? this.#all() : this.#of(container)) {
      if (!this.#tryLock(index)) continue
      if (this.#get(index, WORD.owner) !== 0 && !this.#isHeld(index, isHeld)) this.#set(index, WORD.doomed, 1)
      this.#unlock(index)
    }
  }

  get size(): number {
    return this.#all().length
  }

  forget(container: number): void {
    for (const index of this.#of(container)) this.#drop(index)
  }

  #isHeld(index: number, isHeld: IsHeld): boolean {
    const holder = { process: this.#get(index, WORD.holder) as Tid, fd: this.#get(index, WORD.holderFd) }
    if (holder.process === 0) return this.#seconds() - this.#get(index, WORD.born) <= GIVEN_S
    const kind = this.#get(index, WORD.kind) === KIND.mount ? 'mount' : 'context'
    return isHeld(kind, new Fd(this.#get(index, WORD.opened)), holder)
  }

  #add(container: number, what: Kind): ((holder: Holder) => void) | undefined {
    const own = this.#of(container).sort((a, b) => this.#get(a, WORD.born) - this.#get(b, WORD.born))
    if (own.length >= ENTRIES_PER_CONTAINER) this.#drop(own[0]!)
    for (let index = 0; index < ENTRIES; index++) {
      if (this.#get(index, WORD.owner) !== 0 || !this.#tryLock(index)) continue
      const isFree = this.#get(index, WORD.owner) === 0
      if (isFree) this.#fill(index, container, what)
      this.#unlock(index)
      if (isFree) return this.#tell(index)
    }
    return undefined
  }

  #fill(index: number, container: number, { kind, opened, made, type = '' }: Kind): void {
    this.#set(index, WORD.kind, kind)
    this.#set(index, WORD.doomed, 0)
    this.#set(index, WORD.holder, 0)
    this.#set(index, WORD.made, made?.release() ?? NONE)
    this.#set(index, WORD.length, 0)
    this.#set(index, WORD.born, this.#seconds())
    this.#append(index, [type])
    this.#set(index, WORD.opened, opened.release())
    Atomics.add(this.#words, index * WORDS + WORD.serial, 1)
    this.#set(index, WORD.owner, container + 1)
  }

  /** The entry may be another one by then. */
  #tell(index: number): (holder: Holder) => void {
    const serial = this.#get(index, WORD.serial)
    return ({ process, fd }) => {
      if (!this.#lock(index)) return
      if (this.#get(index, WORD.serial) === serial) {
        this.#set(index, WORD.holderFd, fd)
        this.#set(index, WORD.holder, process)
      }
      this.#unlock(index)
    }
  }

  #find(container: number, kind: number, isIt: (opened: Handle) => boolean): number | 'busy' | undefined {
    const matches = (index: number): boolean =>
      this.#get(index, WORD.owner) === container + 1 &&
      this.#get(index, WORD.kind) === kind &&
      this.#get(index, WORD.doomed) === 0 &&
      isIt(new Fd(this.#get(index, WORD.opened)))
    const index = this.#of(container).find(matches)
    if (index === undefined) return undefined
    if (!this.#lock(index)) return 'busy'
    // Another call may have ended it in between, and something else may have its descriptor.
    if (matches(index)) return index
    this.#unlock(index)
    return undefined
  }

  #kept(index: number): Kept {
    return {
      handle: new Fd(this.#get(index, WORD.opened)),
      end: () => this.#set(index, WORD.doomed, 1),
      [Symbol.dispose]: () => this.#unlock(index),
    }
  }

  #context(index: number): Context {
    const [type, ...parameters] = this.#parameters(index)
    return {
      ...this.#kept(index),
      type: type![0],
      parameters,
      made: this.#made(index),
      add: (parameter) => this.#append(index, parameter),
      keep: (context) => this.#set(index, WORD.made, context.release()),
    }
  }

  #made(index: number): Fd | undefined {
    const raw = this.#get(index, WORD.made)
    return raw === NONE ? undefined : new Fd(raw)
  }

  /** `u16 length of the key | u16 length of the value, or NO_VALUE | key | value` */
  #append(index: number, [key, value]: Parameter): boolean {
    const length = this.#get(index, WORD.length)
    const record = Buffer.alloc(4 + key.length + (value?.length ?? 0))
    if (length + record.length > PARAMETERS) return false
    record.writeUInt16LE(key.length, 0)
    record.writeUInt16LE(value?.length ?? NO_VALUE, 2)
    record.write(key, 4, 'latin1')
    record.write(value ?? '', 4 + key.length, 'latin1')
    this.#bytes.set(record, index * PARAMETERS + length)
    this.#set(index, WORD.length, length + record.length)
    return true
  }

  #parameters(index: number): Parameter[] {
    const at = index * PARAMETERS
    return decode(Buffer.from(this.#bytes.slice(at, at + this.#get(index, WORD.length))))
  }

  #all(): number[] {
    return Array.from({ length: ENTRIES }, (_, index) => index).filter((index) => this.#get(index, WORD.owner) !== 0)
  }

  #of(container: number): number[] {
    return this.#all().filter((index) => this.#get(index, WORD.owner) === container + 1)
  }

  /** Now, or when the call that has it is done. */
  #drop(index: number): void {
    this.#set(index, WORD.doomed, 1)
    if (this.#tryLock(index)) this.#unlock(index)
  }

  #tryLock(index: number): boolean {
    return Atomics.compareExchange(this.#words, index * WORDS + WORD.lock, 0, 1) === 0
  }

  #lock(index: number): boolean {
    for (const end = performance.now() + LOCK_MS; performance.now() < end; ) {
      if (this.#tryLock(index)) return true
      Atomics.wait(this.#words, index * WORDS + WORD.lock, 1, LOCK_MS)
    }
    return false
  }

  #unlock(index: number): void {
    if (this.#get(index, WORD.owner) !== 0 && this.#get(index, WORD.doomed) === 1) {
      this.#set(index, WORD.owner, 0)
      closeRaw(this.#get(index, WORD.opened))
      if (this.#get(index, WORD.made) !== NONE) closeRaw(this.#get(index, WORD.made))
    }
    this.#set(index, WORD.lock, 0)
    Atomics.notify(this.#words, index * WORDS + WORD.lock)
  }

  #get(index: number, word: number): number {
    return Atomics.load(this.#words, index * WORDS + word)
  }

  #set(index: number, word: number, value: number): void {
    Atomics.store(this.#words, index * WORDS + word, value)
  }
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
