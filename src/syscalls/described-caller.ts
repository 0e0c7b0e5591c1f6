import { BPF_F_ALLOW_MULTI } from '../abi/bpf.ts'
import type { Dev, Mode, PathBytes, Tid } from '../abi/brand.ts'
import { type Cap, toOutside } from '../abi/credentials.ts'
import { errno, errnoName } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME } from '../abi/mount.ts'
import { SCHED, type SchedAttr } from '../abi/sched.ts'
import { major, minor, S_IFBLK, S_IFCHR } from '../abi/stat.ts'
import { PAGE, PATH_MAX } from '../abi/system.ts'
import type { Act } from '../calls/act.ts'
import type { Caller, DeviceRules, MemoryReader, NodevReason, Registers, Task } from '../calls/caller.ts'
import type { Context, DetachedMount } from '../calls/context.ts'
import type { DevicePrograms, NoGroup } from '../calls/device-programs.ts'
import type { Fuse } from '../calls/fuse.ts'
import type { Mounts, SourceKind } from '../calls/mounts.ts'
import type { ParsedCall, PointedTo } from '../calls/parse-call.ts'
import type { Reason, ReasonCode } from '../calls/reasons.ts'
import { WORDS, type Word } from '../calls/record.ts'
import type { Syscall } from '../calls/syscall.ts'
import { ContinueError, continueWith, isOff, judgedBy, type Verdict, verdictOfError } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { NOBODYS } from '../policy/devices.ts'
import { keyNames } from '../policy/keys.ts'
import { keyThatIsOff, type Policy } from '../policy/policy.ts'
import type { CallerDescription, DescriptorDescription, PathDescription } from './caller-facts.ts'
import { judgeOnHost, withoutCaller } from './host-userns.ts'
import { handlers, isTrapped } from './index.ts'

/* Callers that a person describes, and what the handlers decide for them: nothing here asks the kernel. */

/** Root of an ordinary container: what holds where nothing else is described. */
const USUAL = {
  ...{ capabilities: 'all', userNamespace: 'container', mountNamespace: 'container', deviceRules: 'all' },
  ...{ uidMap: '0 100000 65536', gidMap: '0 100000 65536', cgroup: 'own', fuse: 'ready' },
} as const
const USUAL_TASK = { policy: 'SCHED_OTHER', priority: 0 } as const
const USUAL_PATH = { owner: 'mapped', devices: 'open', mountedBy: 'host', times: 'relatime', source: 'device' } as const

const BARRED: Readonly<Record<NonNullable<PathDescription['devices']>, NodevReason | undefined>> = {
  open: undefined,
  nodev: { why: 'nodevMount', node: 'plain' },
  nodevOfRuntime: { why: 'nodevMount', node: 'covered' },
  tmpfsOfContainer: { why: 'containerSuperblock', node: 'covered' },
  overlayOfContainer: { why: 'containerSuperblock', node: 'none' },
}
const TIMES = { relatime: 0n, noatime: MOUNT_ATTR_NOATIME, strictatime: MOUNT_ATTR_STRICTATIME } as const
const NO_GROUP = {
  own: 'ownCgroup',
  outside: 'outsideCgroup',
  removed: 'removedCgroup',
} as const satisfies Readonly<Record<string, NoGroup>>

/** A question of a handler that the description does not answer. Nothing is guessed then. */
export class MissingFact extends Error {
  override readonly name = 'MissingFact'
}
const beyond = (what: string) => (): never => {
  throw new MissingFact(`deciding takes ${what}, which cannot be described`)
}

/** A file, by its path or descriptor as the call names it; it is open nowhere. */
class DescribedFile implements Handle {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  get raw(): never {
    throw new MissingFact(`deciding takes a look at ${this.text} that cannot be described`)
  }

  [Symbol.dispose](): void {}
}

const SLASH = 0x2f
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const withoutNul = (bytes: Uint8Array): string => Buffer.from(bytes).toString().replace(/\0.*$/s, '')

/** Returns a text with its NUL. */
function textOf({ bytes }: PointedTo): Uint8Array {
  const end = bytes.indexOf(0)
  return end < 0 ? Buffer.concat([bytes, Buffer.of(0)]) : bytes.subarray(0, end + 1)
}

/** Reads what is in memory where the arguments of a call point to. */
class DescribedMemory implements MemoryReader {
  readonly #memory: ParsedCall['memory']

  constructor({ memory }: ParsedCall) {
    this.#memory = memory
  }

  bytes(at: bigint, length: number): Uint8Array {
    const copy = new Uint8Array(length)
    if (length === 0) return copy
    const { bytes, isPadded } = this.#whole(at)
    if (bytes.length < length && !isPadded)
      throw new MissingFact(`${length} bytes are read where the call has ${bytes.length}: write all of them`)
    copy.set(bytes.subarray(0, length))
    return copy
  }

  path(at: bigint): PathBytes {
    // A path that is cut says enough: what it leads to is described.
    const text = textOf(this.#at(at))
    if (text.length > PATH_MAX) throw new ContinueError('unreadable')
    if (text.length === 1) throw new ContinueError('pathNotResolved')
    return text as PathBytes
  }

  string(at: bigint, limit: number = PAGE): string | undefined {
    if (at === 0n) return undefined
    const text = textOf(this.#whole(at))
    if (text.length > limit) throw new ContinueError('unreadable')
    return latin1(text.subarray(0, -1))
  }

  options(at: bigint): string | undefined {
    return at === 0n ? undefined : latin1(textOf(this.#whole(at)).subarray(0, -1)).slice(0, PAGE - 1)
  }

  #whole(at: bigint): PointedTo {
    const found = this.#at(at)
    if (found.isCut) throw new MissingFact('the call is cut, by "...": write all of it, as "strace -v -s 4096" does')
    return found
  }

  #at(at: bigint): PointedTo {
    if (at === 0n) throw new ContinueError('unreadable')
    for (const [start, { bytes, ...how }] of this.#memory)
      if (at === start || (at > start && at < start + BigInt(bytes.length)))
        return { bytes: bytes.subarray(Number(at - start)), ...how }
    throw new MissingFact(
      `the memory at 0x${at.toString(16)} is not known: write in place of the address what is there, as "text", [number] or {member=value}`,
    )
  }
}

/** Answers the questions of handlers by a description. */
class DescribedCaller extends DescribedMemory implements Caller {
  readonly #about: CallerDescription
  /** What was taken to be as usual. */
  readonly assumed = new Set<string>()
  /** What the rules were asked for last. */
  #device = ''
  readonly tid = 1 as Tid
  readonly bits = 64
  readonly noted = 0n
  readonly mayComeAgain = false
  readonly descriptors: Handle = new DescribedFile('/proc/self/fd')

  constructor(call: ParsedCall, about: CallerDescription) {
    super(call)
    this.#about = about
  }

  #fact<Name extends keyof typeof USUAL>(name: Name): NonNullable<CallerDescription[Name]> {
    if (this.#about[name] === undefined) this.assumed.add(`${name}: ${USUAL[name]}`)
    return (this.#about[name] ?? USUAL[name]) as NonNullable<CallerDescription[Name]>
  }

  #ofPath<Name extends keyof typeof USUAL_PATH>(text: string, name: Name): NonNullable<PathDescription[Name]> {
    const given = this.#about.paths?.[text]?.[name] ?? this.#about.path?.[name]
    if (given === undefined) this.assumed.add(`path: { ${name}: ${USUAL_PATH[name]} }`)
    return (given ?? USUAL_PATH[name]) as NonNullable<PathDescription[Name]>
  }

  #found(text: string): DescribedFile {
    const failed = this.#about.paths?.[text]?.errno ?? this.#about.path?.errno
    if (failed !== undefined) throw new ContinueError('pathNotResolved', errno(failed))
    return new DescribedFile(text)
  }

  /** A path that is not absolute begins at a descriptor. */
  #requireOpen(dirfd: number, path: PathBytes): void {
    if (path[0] === SLASH || dirfd === AT_FDCWD) return
    const { is } = this.#about.descriptors?.[dirfd] ?? {}
    if (is === 'closed') throw new ContinueError('pathNotResolved', errno('EBADF'))
    if (is === undefined) this.assumed.add(`descriptors: { ${dirfd}: { is: other } }`)
  }

  /** What a descriptor is, for a call that asks what Intercede has made of it. */
  #descriptor(fd: number): DescriptorDescription {
    const about = this.#about.descriptors?.[fd]
    if (about) return about
    throw new MissingFact(
      `what descriptor ${fd} is must be described, such as descriptors: { ${fd}: { context: { type: ext4 } } }, or { ${fd}: { is: other } }`,
    )
  }

  get inHostUserns(): boolean {
    return this.#about.userNamespace === 'host'
  }

  /** The policy of a case is the only one that its container has had, and says so itself. */
  readonly mayHaveTokens = false

  get inInitialUserns(): boolean {
    return this.#fact('userNamespace') !== 'nested'
  }

  holds(name: Cap): boolean {
    const held = this.#fact('capabilities')
    return typeof held === 'string' ? held === 'all' : held.includes(name)
  }

  commands(inode: Handle, name: Cap): boolean {
    return this.holds(name) && this.#ofPath((inode as DescribedFile).text, 'owner') === 'mapped'
  }

  /** The bytes are not known; whether they are given to the caller does not depend on them. */
  systemInfo(): Uint8Array {
    return new Uint8Array(0)
  }

  parent(dirfd: number, path: PathBytes): { readonly dir: Handle; readonly name: PathBytes } {
    this.#requireOpen(dirfd, path)
    return { dir: this.#found(withoutNul(path)), name: path }
  }

  object(dirfd: number, path: PathBytes): Handle {
    this.#requireOpen(dirfd, path)
    return this.#found(withoutNul(path))
  }

  descriptor(fd: number): Handle {
    if (this.#about.descriptors?.[fd]?.is === 'closed') throw new ContinueError('pathNotResolved', errno('EBADF'))
    return this.#found(`${fd}`)
  }

  task(pid: number): Task {
    if (this.#about.task === 'none') throw new ContinueError('noSuchTask')
    return { tid: pid as Tid, pidfd: new DescribedFile(`process ${pid}`) }
  }

  scheduling(): SchedAttr {
    const about = this.#about.task
    if (about === undefined) this.assumed.add(`task: { policy: ${USUAL_TASK.policy} }`)
    const { policy, priority } = typeof about === 'object' ? about : USUAL_TASK
    return { policy: SCHED[policy.slice('SCHED_'.length) as keyof typeof SCHED], flags: 0n, priority }
  }

  hardLimit(): bigint {
    if (this.#about.hardLimit === undefined) this.assumed.add('hardLimit: 0')
    return this.#about.hardLimit ?? 0n
  }

  readonly canRaiseLimits = true

  deviceRules(dev: Dev, type = S_IFCHR): DeviceRules {
    const rules = this.#fact('deviceRules')
    this.#device = `${type === S_IFBLK ? 'b' : 'c'} ${major(dev)}:${minor(dev)}`
    const isAll = rules === 'all'
    if (typeof rules === 'string') return { mknod: isAll, open: isAll, full: isAll }
    const other = type === S_IFBLK ? 'c' : 'b'
    const access = rules.map((rule) => {
      const [kind, numbers = '', allowed = ''] = rule.split(' ')
      const [maj, min] = numbers.split(':')
      const isIt =
        kind !== other && (maj === '*' || Number(maj) === major(dev)) && (min === '*' || Number(min) === minor(dev))
      return isIt ? allowed : ''
    })
    const has = (letter: string): boolean => access.some((letters) => letters.includes(letter))
    return { mknod: has('m'), open: has('r') || has('w'), full: has('r') && has('w') }
  }

  /** Without other rules, those are meant of a runtime that allows the device by its number, and not every one. */
  deniesOtherDevices(type: number): boolean {
    if (this.#about.deviceRules !== undefined) return !this.deviceRules(NOBODYS, type).open
    this.assumed.delete(`deviceRules: ${USUAL.deviceRules}`)
    this.assumed.add(`deviceRules: ["${this.#device} rwm"]`)
    return true
  }

  devicesBarred(dir: Handle): NodevReason | undefined {
    return BARRED[this.#ofPath((dir as DescribedFile).text, 'devices')]
  }

  mountedInside(file: Handle): boolean {
    return this.#ofPath((file as DescribedFile).text, 'mountedBy') === 'container'
  }

  sourceKind(node: Handle, writable: boolean): SourceKind {
    const is = this.#ofPath((node as DescribedFile).text, 'source')
    if (is === 'otherFile') return { other: true }
    return is === 'device' ? { dev: 0 as Dev, writable } : { errno: errno('EACCES') }
  }

  hostId(kind: 'uid' | 'gid', id: number): number | undefined {
    const extents = this.#fact(`${kind}Map`).split(/, */)
    const map = extents.map((extent) => {
      const [inside = 0, outside = 0, count = 0] = extent.split(' ').map(Number)
      return { inside, outside, count }
    })
    return toOutside(map, id)
  }

  get mounts(): Mounts {
    const unasked = beyond('an act on a mount')
    return {
      namespace: () => {
        if (this.#fact('mountNamespace') === 'host') throw new ContinueError('hostMounts')
        return new DescribedFile("the caller's mount namespace")
      },
      tidy: () => {},
      context: (fd) => this.#context(fd),
      unplaced: (fd) => this.#mount(fd),
      isMade: (file) => this.#ofPath((file as DescribedFile).text, 'mountedBy') === 'intercede',
      attributes: ({ handle }) => TIMES[this.#ofPath((handle as DescribedFile).text, 'times')],
      ...{
        mount: unasked,
        attach: unasked,
        remount: unasked,
        makeNode: unasked,
        changeAttribute: unasked,
        pick: unasked,
        reconfigure: unasked,
      },
      ...{ openContext: unasked, lock: unasked, renew: unasked, create: unasked, finish: unasked },
      ...{ adopt: unasked, createBpffs: unasked },
    }
  }

  #context(fd: number): Context | undefined {
    const { context } = this.#descriptor(fd)
    if (!context) return undefined
    const { type, parameters, state, picked } = context
    const handle = new DescribedFile(`descriptor ${fd}`)
    return {
      ...{ type, parameters, handle, name: { index: 0, serial: 0 }, picked: picked ? handle : undefined },
      ...{ made: state === 'created' || state === 'mounted' ? handle : undefined, isUsed: state === 'mounted' },
      hasFailed: state === 'failed',
      add: () => true,
      ...{ apply() {}, keep() {}, fail() {}, use() {}, endAfterCall() {}, endOnceUnlocked() {}, [Symbol.dispose]() {} },
    }
  }

  #mount(fd: number): DetachedMount | undefined {
    const { mount } = this.#descriptor(fd)
    if (!mount) return undefined
    const { type, nodev, shift, changeable } = mount
    const handle = new DescribedFile(`descriptor ${fd}`)
    return {
      ...{ type, parameters: [], handle, name: { index: 0, serial: 0 }, manner: { nodev, shift } },
      unlockedCopy: changeable ? handle : undefined,
      ...{ endAfterCall() {}, endOnceUnlocked() {}, [Symbol.dispose]() {} },
    }
  }

  get fuse(): Fuse {
    const unasked = beyond('an act of a FUSE program')
    return {
      ready: (program) => {
        const why = this.#fact('fuse')
        if (why !== 'ready') throw new ContinueError(why as ReasonCode)
        return { program, process: {} }
      },
      ...{ mount: unasked, mounted: unasked },
    }
  }

  get devicePrograms(): DevicePrograms {
    const cgroup = this.#fact('cgroup')
    const groupOf = (group: Handle) => this.#descriptor(Number((group as DescribedFile).text)).cgroup!
    const unasked = beyond('an act on a device program')
    return {
      barred: cgroup === 'own' ? undefined : cgroup,
      group: (fd) => {
        const { is, cgroup: group } = this.#descriptor(fd)
        if (is === 'closed') return 'notOpen'
        if (!group) return 'notCgroup'
        const handle = new DescribedFile(`${fd}`)
        return group.where === 'below' ? { group: handle, above: [handle] } : NO_GROUP[group.where]
      },
      named: (fd) => {
        const { is, program } = this.#descriptor(fd)
        if (program !== undefined) return { id: program, loaded: 0n }
        return is === 'closed' ? 'notOpen' : 'notOurs'
      },
      numbered: (id) => (this.#about.programs?.includes(id) ? { id, loaded: 0n } : undefined),
      attached: (group) => {
        const { programs, multi } = groupOf(group)
        return { flags: multi ? BPF_F_ALLOW_MULTI : 0, ids: programs, revision: 0n }
      },
      loosens: ([group]) => !groupOf(group!).multiAbove,
      link: (fd) => {
        const { link } = this.#descriptor(fd)
        return link === undefined ? undefined : { id: link, group: 1n }
      },
      ...{ loading: unasked, open: unasked, standIn: unasked, countLink: unasked, openLink: unasked },
    }
  }

  readonly mustBeCharged = beyond('an act')
  readonly mountNode = beyond('an act')
  readonly note = beyond('an act')
  readonly act = beyond('an act')
  readonly look = beyond('an act')
}

/** What the handlers decide about a call. */
export interface CallDecision {
  readonly outcome: Word
  readonly errno?: string
  readonly why: Reason
  /** The verb and the rest of the act, with handles as their paths. */
  readonly act?: Readonly<Record<string, string>>
  /** What was taken to be as usual, since nobody has described it. */
  readonly assumed: readonly string[]
  /** Set if a filter for the policy does not even trap the call. */
  readonly isUntrapped?: true
}

/** Reasons that name the key which would have a filter trap the call, too. */
const BY_KEY: ReadonlySet<ReasonCode> = new Set(['keyOff', 'niceTooLow'])

const registersOf = (args: readonly bigint[]): Registers => ({
  int: (index) => Number(BigInt.asIntN(32, args[index]!)),
  uint: (index) => Number(BigInt.asUintN(32, args[index]!)),
  pointer: (index) => args[index]!,
})

const byName = new Map(handlers.map((handler) => [handler.name, handler]))

/** Takes the steps of engine/serve/server.ts, in its order. @throws {MissingFact} */
function verdictOn(call: ParsedCall, caller: DescribedCaller, policy: Policy): Verdict {
  const handler = byName.get(call.name)!
  const registers = registersOf(call.args)
  const screened = handler.screen(registers, policy)
  if (caller.inHostUserns) return withoutCaller(screened) ?? verdictOnHost(handler, registers, caller, policy)
  const off = keyNames.indexOf(keyThatIsOff(policy, handler.key))
  const judged = (verdict: Verdict): Verdict =>
    isOff(verdict) ? continueWith('keyOff', off) : judgedBy(policy, verdict)
  if (screened) return judged(screened)
  try {
    const request = handler.decode(registers, caller, policy)
    return judged(handler.screenCopy?.(request) ?? handler.decide(request, caller, policy))
  } catch (error) {
    return judgedBy(policy, verdictOfError(error))
  }
}

function verdictOnHost(
  { decode, screenCopy, key }: Syscall<unknown>,
  registers: Registers,
  caller: DescribedCaller,
  policy: Policy,
): Verdict {
  let copied: Verdict | undefined
  try {
    copied = screenCopy?.(decode(registers, caller, policy))
  } catch (error) {
    // Where the copy is not described, the caller decides.
    if (!(error instanceof MissingFact)) copied = verdictOfError(error)
  }
  return withoutCaller(copied) ?? judgeOnHost(key, caller)
}

/** Writes what an act has as texts, those of an object in it beside the others. */
function actFields(value: object): Readonly<Record<string, string>> {
  const entries = Object.entries(value).flatMap(([name, member]: [string, unknown]): (readonly [string, string])[] => {
    // Of a context or mount, what it is to us says nothing.
    const isOurs = typeof member === 'function' || (name === 'name' && !(member instanceof Uint8Array))
    if (member === undefined || isOurs) return []
    if (member instanceof DescribedFile) return [[name, member.text]]
    if (member instanceof Uint8Array) return [[name, withoutNul(member)]]
    if (Array.isArray(member)) return [[name, member.join(' ')]]
    if (typeof member === 'bigint') return [[name, `0x${member.toString(16)}`]]
    if (name === 'dev' && typeof member === 'number') return [[name, `${major(member as Dev)}:${minor(member as Dev)}`]]
    if (name === 'mode' && typeof member === 'number') return [[name, `0${(member as Mode).toString(8)}`]]
    if (name === 'source' && typeof member === 'object') return [[name, (member as { text?: string }).text ?? 'NULL']]
    return typeof member === 'object' && member !== null ? Object.entries(actFields(member)) : [[name, String(member)]]
  })
  return Object.fromEntries(entries)
}

const fieldsOf = (act: Act): Readonly<Record<string, string>> => {
  const { verb, ...rest } = act
  return { verb, ...actFields(rest) }
}

/**
 * Decides a call of a described caller as the engine does.
 *
 * @throws {MissingFact} if that depends on what is not described
 */
export function decideFor(call: ParsedCall, about: CallerDescription, policy: Policy): CallDecision {
  const caller = new DescribedCaller(call, about)
  const verdict = verdictOn(call, caller, policy)
  const { why } = verdict
  return {
    outcome: WORDS[verdict.is],
    ...(verdict.is === 'errno' ? { errno: errnoName(verdict.errno) } : {}),
    why,
    ...(verdict.is === 'act' ? { act: fieldsOf(verdict.act) } : {}),
    assumed: [...caller.assumed],
    ...(isTrapped(policy, call) || BY_KEY.has(why.code) ? {} : { isUntrapped: true as const }),
  }
}
