import type { Tid } from '../../abi/brand.ts'
import type { FdStore, InheritedFds, WordRange } from '../../caller/programs/fd-store.ts'
import type {
  Context,
  DetachedMount,
  FsParameters,
  IsHeld,
  Keeping,
  Kept,
  KeptName,
  MountManner,
  NewMount,
  Owner,
  Parameter,
  StoredFsContext,
} from '../../calls/context.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { ENTRIES, ENTRY_WORDS, PARAMETERS } from '../../link/persistent-layout.ts'
import { SharedEntries } from './shared-entries.ts'

/**
 * The most entries of one container. A program that mounts has two for a moment: the context, and the mount that it has
 * just made from it. While all entries are taken, a container gets fewer: see `FsContextStore`.
 */
export const ENTRIES_PER_CONTAINER = 16
/**
 * If no thread reports the caller's number of a descriptor within this time (the thread that gave it may have died),
 * all descriptors of the process are searched for it.
 */
const GIVEN_S = 2
/**
 * The kind of an entry. context: a result of fsopen(2). failed: a context from which nothing could be made. used: a
 * context whose file system is mounted, known only until its caller has the mount. mount: a mount from fsmount(2) or
 * mount_setattr(2). picked: a result of fspick(2), which fails like a context. applied: the same, with parameters that
 * have taken effect; the next parameter makes it picked again.
 *
 *   context -> failed   Context.fail()
 *   context -> used     Context.use()
 */
const KIND = { context: 0, mount: 1, failed: 2, used: 3, picked: 4, applied: 5 } as const
const CONTEXTS: readonly number[] = [KIND.context, KIND.failed, KIND.used, KIND.picked, KIND.applied]
/** In these entries `made` is what `fsmount` mounts. */
const MADE: readonly number[] = [KIND.context, KIND.used]
/** In these entries `made` is the context through which a file system is changed. */
const PICKED: readonly number[] = [KIND.picked, KIND.applied]
const MOUNTS: readonly number[] = [KIND.mount]
/** Nothing more can be made from these entries: they make room first. */
const SPENT: readonly number[] = [KIND.failed, KIND.used]
const [SHIFT, NODEV] = ['s', 'n'] as const
const NO_VALUE = 0xffff
const UNKNOWN = -1

/** The contents of a new entry. */
interface New {
  readonly kind: number
  /**
   * given: the caller's descriptor. made: our context, or the mount. unlockedCopy: a copy of the mount without locked
   * attributes.
   */
  readonly fds: { readonly given: Fd; readonly made?: Fd | undefined; readonly unlockedCopy?: Fd | undefined }
  readonly told: FsParameters
  /** Only in a mount. */
  readonly manner?: MountManner
  readonly before?: KeptName
  readonly process: Tid
}

/**
 * The state of fsopen(2) and the calls after it, in memory that the threads share. A container holds an inert context,
 * from which nothing is ever made. We hold a copy, by which we recognise the context, its parameters, and later our own
 * context, in which the file system was made. Then we hold the mount, which would otherwise vanish before it is
 * attached somewhere.
 *
 * While all entries are taken, a container that wants one gets it from the container with the most, if that has at
 * least two more. So each of N containers can have an Nth of the entries, whatever the others do, and none can take
 * entries within another's share.
 *
 * Invariant: any thread may call everything except `restore`. What `findContext` and `findMount` return is locked until
 * it is disposed of; only the thread that has it may call its methods.
 */
export class FsContextStore implements Keeping {
  readonly #entries: SharedEntries
  readonly #bytes: Uint8Array
  readonly #seconds: () => number

  /**
   * @param seconds a clock that all engines share
   */
  constructor(place: WordRange, fdStore: FdStore, seconds: () => number = () => process.hrtime()[0]) {
    const { words, from } = place
    this.#entries = new SharedEntries(place, fdStore)
    this.#bytes = new Uint8Array(
      words.buffer,
      words.byteOffset + 4 * (from + ENTRIES * ENTRY_WORDS),
      ENTRIES * PARAMETERS,
    )
    this.#seconds = seconds
  }

  /** Takes over the entries of the previous engine. To be called before any thread uses them. */
  restore(inheritedFds: InheritedFds): void {
    this.#entries.restore(inheritedFds)
  }

  addContext(container: Owner, opened: Fd, type: string, process: Tid): Kept | undefined {
    return this.#add(container, { kind: KIND.context, fds: { given: opened }, told: { type, parameters: [] }, process })
  }

  addPicked(
    container: Owner,
    { type, given, ours }: { readonly type: string; readonly given: Fd; readonly ours: Fd },
    process: Tid,
  ): Kept | undefined {
    return this.#add(container, {
      kind: KIND.picked,
      fds: { given, made: ours },
      told: { type, parameters: [] },
      process,
    })
  }

  addMount(container: Owner, mount: NewMount, process: Tid): Kept | undefined {
    const { root: given, tree: made, unlockedCopy, told, manner } = mount
    const fds = { given, made, unlockedCopy }
    return this.#add(container, { kind: KIND.mount, fds, told, manner, process, before: told.name })
  }

  given(
    { serial: owner }: Owner,
    { index, serial }: KeptName,
    search: (given: Handle, process: Tid) => number | undefined,
  ): number | undefined {
    const entries = this.#entries
    if (!entries.lock(index)) return undefined
    try {
      if (entries.get(index, 'owner') !== owner || entries.serial(index) !== serial) return undefined
      const fd = search(entries.fd(index, 'given')!, entries.get(index, 'holder') as Tid)
      if (fd !== undefined) entries.set(index, 'holderFd', fd)
      return fd
    } finally {
      entries.unlock(index)
    }
  }

  findContext(container: Owner, isSame: (opened: Handle) => boolean): Context | 'busy' | undefined {
    const index = this.#find(container.serial, CONTEXTS, 'given', isSame)
    return typeof index === 'number' ? this.#context(index, container) : index
  }

  findMount({ serial }: Owner, isSame: (tree: Handle) => boolean): DetachedMount | 'busy' | undefined {
    const index = this.#find(serial, MOUNTS, 'made', isSame)
    if (typeof index !== 'number') return index
    this.#endBefore(index)
    return {
      ...this.#stored(index, 'made'),
      ...this.#told(index),
      manner: this.#manner(index),
      unlockedCopy: this.#entries.fd(index, 'unlockedCopy'),
    }
  }

  /**
   * Ends what a mount was made from: its caller has the mount by now. The thread that gave it may not have run since,
   * or is in the middle of ending it, and what it still holds would keep the device busy after umount(2).
   */
  #endBefore(mount: number): void {
    const entries = this.#entries
    const index = entries.get(mount, 'before')
    if (index === UNKNOWN) return
    entries.dropNow(index, entries.get(mount, 'beforeSerial'))
    entries.set(mount, 'before', UNKNOWN)
  }

  has({ serial }: Owner): boolean {
    return this.#entriesOf(serial).length > 0
  }

  get size(): number {
    return this.#entries.owned.length
  }

  tidy(container: Owner | undefined, isHeld: IsHeld): void {
    const entries = this.#entries
    for (const index of container === undefined ? entries.owned : this.#entriesOf(container.serial)) {
      if (!entries.tryLock(index)) continue
      try {
        // The entry may have ended before it was locked.
        if (entries.get(index, 'owner') !== 0 && !this.#isHeld(index, isHeld)) entries.doom(index)
      } finally {
        entries.unlock(index)
      }
    }
  }

  /** @param serial of a container that is gone */
  forget(serial: number): void {
    for (const index of this.#entriesOf(serial)) this.#entries.drop(index)
  }

  #age(index: number): number {
    return this.#seconds() - this.#entries.get(index, 'born')
  }

  #isHeld(index: number, isHeld: IsHeld): boolean {
    const entries = this.#entries
    const [process, fd] = [entries.get(index, 'holder') as Tid, entries.get(index, 'holderFd')]
    if (fd === UNKNOWN && this.#age(index) <= GIVEN_S) return true
    return isHeld(entries.fd(index, 'given')!, fd === UNKNOWN ? { process } : { process, fd })
  }

  #add(container: Owner, what: New): Kept | undefined {
    const index = this.#place(container.serial)
    if (index === undefined) return undefined
    this.#fill(index, container, what)
    const kept = this.#kept(index)
    this.#entries.unlock(index)
    return kept
  }

  /**
   * Returns a locked entry for a container; undefined if calls use all candidates. A container at its limit gets one of
   * its own entries. Threads that add at the same time may have exceeded the limit.
   */
  #place(serial: number): number | undefined {
    const entries = this.#entries
    const own = this.#bySpent(serial)
    const extra = Math.max(0, own.length - ENTRIES_PER_CONTAINER)
    for (const index of own.slice(0, extra)) entries.drop(index)
    if (own.length < ENTRIES_PER_CONTAINER) return entries.lockUnowned() ?? this.#evict(serial)
    return own.slice(extra).find((index) => entries.seize(index, serial))
  }

  /** Ends an entry while all are taken, for a container that wants one. @returns the locked entry, or undefined */
  #evict(serial: number): number | undefined {
    const entries = this.#entries
    const [richest, most] = this.#richest
    const from = most >= this.#entriesOf(serial).length + 2 ? richest : serial
    return this.#bySpent(from).find((index) => entries.seize(index, from))
  }

  /** The serial of the container with the most entries, and their number. */
  get #richest(): readonly [serial: number, entries: number] {
    const counts = new Map<number, number>()
    for (const index of this.#entries.owned) {
      const serial = this.#entries.get(index, 'owner')
      counts.set(serial, (counts.get(serial) ?? 0) + 1)
    }
    return [...counts].reduce((most, each) => (each[1] > most[1] ? each : most), [-1, 0])
  }

  /** The entries of a container: the spent entries first, then the oldest. */
  #bySpent(serial: number): number[] {
    const entries = this.#entries
    const isSpent = (index: number): boolean => SPENT.includes(entries.get(index, 'kind'))
    return this.#entriesOf(serial).sort(
      (a, b) => Number(isSpent(b)) - Number(isSpent(a)) || entries.get(a, 'born') - entries.get(b, 'born'),
    )
  }

  #fill(index: number, container: Owner, { kind, fds, told, manner, process, before }: New): void {
    const entries = this.#entries
    const { type, parameters } = told
    entries.renew(index, container.index, fds)
    entries.set(index, 'kind', kind)
    entries.set(index, 'holder', process)
    entries.set(index, 'holderFd', UNKNOWN)
    entries.set(index, 'before', before?.index ?? UNKNOWN)
    entries.set(index, 'beforeSerial', before?.serial ?? UNKNOWN)
    entries.set(index, 'length', 0)
    entries.set(index, 'born', this.#seconds())
    for (const record of [manner ? ([type, write(manner)] as const) : ([type] as const), ...parameters])
      this.#append(index, record)
    entries.set(index, 'owner', container.serial)
  }

  /** The entry may have been replaced by then. */
  #kept(index: number): Kept {
    const entries = this.#entries
    const serial = entries.serial(index)
    const tell = (fd: number | undefined): void => {
      if (fd === undefined) entries.drop(index, serial)
      if (fd === undefined || !entries.lock(index)) return
      if (entries.serial(index) === serial) entries.set(index, 'holderFd', fd)
      entries.unlock(index)
    }
    return { name: { index, serial }, tell }
  }

  #find(
    serial: number,
    kinds: readonly number[],
    by: 'given' | 'made',
    isSame: (ours: Handle) => boolean,
  ): number | 'busy' | undefined {
    const entries = this.#entries
    const matches = (index: number): boolean =>
      entries.get(index, 'owner') === serial &&
      kinds.includes(entries.get(index, 'kind')) &&
      !entries.isDoomed(index) &&
      isSame(entries.fd(index, by)!)
    const index = this.#entriesOf(serial).find(matches)
    if (index === undefined) return undefined
    if (!entries.lock(index)) return 'busy'
    // Another call may have ended it in between, and something else may have its descriptor.
    if (matches(index)) return index
    entries.unlock(index)
    return undefined
  }

  #stored(index: number, word: 'given' | 'made'): StoredFsContext {
    const entries = this.#entries
    const serial = entries.serial(index)
    return {
      handle: entries.fd(index, word)!,
      name: { index, serial },
      endAfterCall: () => entries.doom(index),
      endOnceUnlocked: () => entries.drop(index, serial),
      [Symbol.dispose]: () => entries.unlock(index),
    }
  }

  #context(index: number, container: Owner): Context {
    const kind = this.#entries.get(index, 'kind')
    return {
      ...this.#stored(index, 'given'),
      ...this.#told(index),
      made: MADE.includes(kind) ? this.#entries.fd(index, 'made') : undefined,
      picked: PICKED.includes(kind) ? this.#entries.fd(index, 'made') : undefined,
      add: (parameter) => this.#addParameter(index, parameter),
      apply: () => this.#entries.set(index, 'kind', KIND.applied),
      keep: (context) => this.#entries.keep(index, container.index, context),
      fail: () => this.#entries.set(index, 'kind', KIND.failed),
      hasFailed: kind === KIND.failed,
      use: () => this.#entries.set(index, 'kind', KIND.used),
      isUsed: kind === KIND.used,
    }
  }

  #told(index: number): FsParameters {
    const [type, ...parameters] = this.#records(index)
    return { type: type![0], parameters }
  }

  #manner(index: number): MountManner {
    const [, manner = ''] = this.#records(index)[0]!
    return { shift: manner.includes(SHIFT), nodev: manner.includes(NODEV) }
  }

  /** The first parameter has the type, and a mount's manner. */
  #records(index: number): readonly Parameter[] {
    const at = index * PARAMETERS
    return decode(Buffer.from(this.#bytes.slice(at, at + this.#entries.get(index, 'length'))))
  }

  /** Forgets parameters that have taken effect, except for the type, which comes first. */
  #addParameter(index: number, parameter: Parameter): boolean {
    const entries = this.#entries
    if (entries.get(index, 'kind') === KIND.applied) {
      const { type } = this.#told(index)
      entries.set(index, 'length', 0)
      this.#append(index, [type])
      entries.set(index, 'kind', KIND.picked)
    }
    return this.#append(index, parameter)
  }

  #append(index: number, parameter: Parameter): boolean {
    const length = this.#entries.get(index, 'length')
    const record = encode(parameter)
    if (length + record.length > PARAMETERS) return false
    this.#bytes.set(record, index * PARAMETERS + length)
    this.#entries.set(index, 'length', length + record.length)
    return true
  }

  #entriesOf(serial: number): number[] {
    return this.#entries.owned.filter((index) => this.#entries.get(index, 'owner') === serial)
  }
}

const write = ({ shift, nodev }: MountManner): string => (shift ? SHIFT : '') + (nodev ? NODEV : '')

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
