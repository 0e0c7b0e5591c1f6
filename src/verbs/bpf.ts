import {
  BPF_F_ALLOW_MULTI,
  BPF_F_REPLACE,
  forOwner,
  LINK_INFO,
  LOAD as MEMBERS,
  PROG_INFO_SIZE,
  verifierSteps,
} from '../abi/bpf.ts'
import { errno } from '../abi/errno.ts'
import { PAGE } from '../abi/system.ts'
import { type Effect, type Mark, type Verb, type Verbs, WAS_NOT, type Write } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { DevicePrograms, OwnProgram } from '../calls/device-programs.ts'
import { why } from '../calls/reasons.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import {
  attachedPrograms,
  createLink,
  type Loaded,
  loadProgram as load,
  objectInfo,
  attachProgram as put,
  detachProgram as take,
  detachLink as takeLink,
  updateLink as update,
} from '../kernel/bpf.ts'
import { orElse, orUndefined, SyscallError } from '../kernel/error.ts'
import { type Fd, type Handle, orClose } from '../kernel/fd.ts'
import { inodeOf } from './create.ts'

type Load = Verbs['loadProgram']
/** Maximum number of bytes of a verifier log; libbpf and Go's library do not ask for more at first. */
const LOG_LIMIT = 16 * 1024 * 1024
/** Maximum size of a log buffer for the kernel, kernel/bpf/log.c bpf_verifier_log_attr_valid(). */
const LOG_SIZE_MAX = 0xffff_ffff >>> 2
/** How many steps of the verifier take less than a millisecond, also on a slow machine. */
const SHORT_STEPS = 512
/** A non-null buffer for an invalid size, for which the kernel answers EINVAL without writing to it. */
const INVALID_BUFFER = new Uint8Array(1)

export const loadProgram: Verb<Load> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.countApart, steps.findProgram],
  safe:
    "The verifier gets only programs for a cgroup's devices, with at most 4,096 instructions that only calculate, " +
    'jump and read their context and stack. The thread has exactly the two capabilities that the kernel requires: ' +
    "with more, the verifier would let a program read the kernel's memory. Nothing that the caller passes is " +
    'looked up in our own tables or memory. The container gets a pipe that represents the program: with a ' +
    'descriptor of the program itself, anyone could attach it to any cgroup of the host.',
  run(act, caller) {
    const log = logBufferFor(act)
    const members = { ...act.load, attr: withLogSize(act, log), log }
    const loaded = caller.devicePrograms.loading(isShort(act), () =>
      caller.act(steps.changePrograms, () => load(members)),
    )
    const writes = writesOf(act, loaded, log)
    if (!loaded.fd) return { value: 0n, errno: loaded.errno!, writes }
    const standIn = caller.devicePrograms.standIn(loaded.fd)
    if (!standIn) return { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms'), writes }
    caller.note(standIn.note)
    return { value: 0n, fd: standIn.fd, cloexec: true, writes }
  },
  /** What the caller has got is the last thing that it got: the writes came before. */
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

/** Returns whether the verifier needs less than a millisecond: it walks few instructions, and writes no log of them. */
const isShort = ({ load: { instructions }, log }: Load): boolean =>
  !log && instructions !== undefined && verifierSteps(instructions) <= SHORT_STEPS

function logBufferFor({ log }: Load): Uint8Array | undefined {
  if (!log) return undefined
  return log.size === 0 || log.size > LOG_SIZE_MAX ? INVALID_BUFFER : new Uint8Array(Math.min(log.size, LOG_LIMIT))
}

function withLogSize({ load: { attr }, log }: Load, logBuffer: Uint8Array | undefined): Uint8Array {
  if (!log || !logBuffer || logBuffer === INVALID_BUFFER) return attr
  const copy = Uint8Array.from(attr)
  new DataView(copy.buffer).setUint32(MEMBERS.logSize, logBuffer.length, true)
  return copy
}

/**
 * Returns what to write to the caller's memory. The kernel reports the size of a log even if it cannot be written,
 * and writes as much as fits.
 */
function writesOf({ log, logSizeAt }: Load, { logSize }: Loaded, logBuffer: Uint8Array | undefined): readonly Write[] {
  const writes: Write[] = []
  if (logSize > 0 && logSizeAt !== undefined) writes.push({ at: logSizeAt, bytes: word(logSize) })
  if (log && logBuffer && logBuffer !== INVALID_BUFFER) {
    const length = logSize > 0 ? Math.min(logSize, logBuffer.length) : logBuffer.indexOf(0) + 1
    const isWritten = logSize > 0 || logBuffer[0] !== 0
    if (isWritten) writes.push({ at: log.at, bytes: logBuffer.subarray(0, length) })
  }
  return writes
}

const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)

export const openProgram: Verb<Verbs['openProgram']> = {
  steps: [steps.findProgram, steps.askPrograms, steps.countApart],
  safe:
    'The number must belong to a program that this container loaded. Its load time must match too, because numbers ' +
    'are reused. The container gets a pipe that represents it.',
  run({ program }, caller) {
    const standIn = caller.devicePrograms.standIn(caller.devicePrograms.open(program))
    if (!standIn) return { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms') }
    caller.note(standIn.note)
    return { value: 0n, fd: standIn.fd, cloexec: true }
  },
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

export const describeProgram: Verb<Verbs['describeProgram']> = {
  steps: [steps.describeProgram, steps.findProgram, steps.askPrograms],
  safe:
    'Nothing changes. The caller learns what the kernel tells anyone with a descriptor of the program: number, name, ' +
    'tag and times, but no code, and nothing through pointers.',
  run({ program, infoAt, length, lengthAt }, caller) {
    // The kernel checks this first too (kernel/bpf/syscall.c bpf_prog_get_info_by_fd()). It is done at home, since no
    // later step may read the caller's memory.
    if (length > PROG_INFO_SIZE && !isZero(caller, infoAt + BigInt(PROG_INFO_SIZE), length - PROG_INFO_SIZE))
      return { value: 0n, errno: errno('E2BIG') }
    using fd = caller.devicePrograms.open(program)
    const info = forOwner(caller.act(steps.describeProgram, () => objectInfo(fd)))
    const returned = info.subarray(0, length)
    return {
      value: 0n,
      writes: [
        { at: infoAt, bytes: returned },
        { at: lengthAt, bytes: new Uint8Array(Uint32Array.of(returned.length).buffer) },
      ],
    }
  },
}

/** Tells whether the members beyond our `struct bpf_prog_info` are zero, as the kernel requires. */
function isZero(caller: Caller, at: bigint, length: number): boolean {
  if (length > PAGE) return false
  try {
    return caller.bytes(at, length).every((byte) => byte === 0)
  } catch (error) {
    if (error instanceof ContinueError) return false
    throw error
  }
}

const LOOSENS: Effect = { value: 0n, errno: errno('EPERM'), why: why('loosens') }
/** For the kernel it is memory that there is no more of. */
const TOO_MANY: Effect = { value: 0n, errno: errno('ENOMEM'), why: why('tooManyPrograms') }

type Attach = Verbs['attachProgram']

const nameOf = ({ id, loaded }: OwnProgram): readonly Mark[] => [id, loaded]
const attachedTo = ({ group }: { readonly group: Handle }, { devicePrograms }: Caller): readonly Mark[] | undefined =>
  orUndefined('any', () => devicePrograms.attached(group).ids)

const isAttached = (programs: DevicePrograms, group: Handle, { id }: OwnProgram): boolean =>
  programs.attached(group).ids.includes(id)

export const attachProgram: Verb<Verbs['attachProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe:
    'The cgroup is strictly below the one into which the runtime put the container. It is found by its id in our ' +
    'own mount, so no bind mount and no descriptor that somebody sent can lead elsewhere. Every program above it ' +
    "stays in force, the runtime's rules too: each must have BPF_F_ALLOW_MULTI, before and after. One that the host " +
    'attaches above later must have it too. Only programs that this container loaded are attached or replaced.',
  run(act, caller) {
    const { group, program, flags } = act
    using programs = opened(act, caller)
    caller.note(isAttached(caller.devicePrograms, group, program) ? 0n : WAS_NOT)
    caller.act(steps.changePrograms, () => put(group, programs.fd, flags, programs.old))
    return keepIfTight(act, caller, programs)
  },
  recover(act, caller, { note }) {
    if (note !== WAS_NOT || !isAttached(caller.devicePrograms, act.group, act.program)) return undefined
    using programs = opened(act, caller)
    return keepIfTight(act, caller, programs)
  },
  /** A program that is attached already: kernel/bpf/cgroup.c find_attach_entry(). */
  once: {
    conflictErrno: errno('EINVAL'),
    isReplayable: ({ flags }) => (flags & BPF_F_ALLOW_MULTI) !== 0,
    key: ({ group, program, flags, replace }) => [
      ...inodeOf(group),
      ...nameOf(program),
      flags,
      ...(replace ? nameOf(replace) : []),
    ],
    fingerprint: attachedTo,
  },
}

interface Opened extends Disposable {
  readonly fd: Fd
  /** The program in whose place the other one comes. */
  readonly old: Fd | undefined
}

function opened(act: Attach, { devicePrograms }: Caller): Opened {
  const { program, replace = single(act, devicePrograms) } = act
  const old = replace && devicePrograms.open(replace)
  const close = (): void => old?.[Symbol.dispose]()
  try {
    const fd = devicePrograms.open(program)
    return {
      ...{ fd, old },
      [Symbol.dispose]() {
        fd[Symbol.dispose]()
        close()
      },
    }
  } catch (error) {
    close()
    throw error
  }
}

/** The only program of a cgroup, of which an attachment without BPF_F_ALLOW_MULTI takes the place. */
function single({ group, program, flags }: Attach, devicePrograms: DevicePrograms): OwnProgram | undefined {
  const [id] = (flags & BPF_F_ALLOW_MULTI) === 0 ? devicePrograms.attached(group).ids : []
  return id === undefined || id === program.id ? undefined : devicePrograms.numbered(id)
}

function keepIfTight({ group, above, flags }: Attach, caller: Caller, { fd, old }: Opened): Effect {
  const undo = (): void => caller.act(steps.changePrograms, () => (old ? put(group, old, flags, fd) : take(group, fd)))
  return undoneUnlessTight(caller, above, undo) ? LOOSENS : { value: 0n }
}

/**
 * Undoes an attachment that has put programs of the cgroups above out of force, or of which that cannot be told.
 *
 * @returns whether it is undone
 * @throws {SyscallError} if it cannot be told; the attachment is undone then, too
 */
function undoneUnlessTight({ devicePrograms }: Caller, above: readonly Handle[], undo: () => void): boolean {
  let isTight = false
  try {
    isTight = !devicePrograms.loosens(above)
  } finally {
    if (!isTight) undo()
  }
  return !isTight
}

export const linkProgram: Verb<Verbs['linkProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe:
    "As `attachProgram`. The container gets the link's descriptor, which can only end the attachment: changing its " +
    'program requires a program.',
  run({ group, above, program }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    const link = caller.act(steps.changePrograms, () => createLink(group, fd))
    // Closing the last descriptor of a link detaches its program.
    const undo = (): void => link[Symbol.dispose]()
    if (undoneUnlessTight(caller, above, undo)) return LOOSENS
    if (orClose([link], () => devicePrograms.countLink(link))) return { value: 0n, fd: link, cloexec: true }
    undo()
    return TOO_MANY
  },
}

export const detachProgram: Verb<Verbs['detachProgram']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: "Only a program that this container loaded is detached, from a cgroup below the container's own.",
  run({ group, program }, caller) {
    using fd = caller.devicePrograms.open(program)
    const isThere = isAttached(caller.devicePrograms, group, program)
    caller.note(isThere ? WAS_NOT : 0n)
    // Where a cgroup can have only one program, the kernel would detach another's.
    if (!isThere) throw new SyscallError('bpf', errno('ENOENT'))
    caller.act(steps.changePrograms, () => take(group, fd))
    return { value: 0n }
  },
  recover({ group, program }, { devicePrograms }, { note }) {
    return note === WAS_NOT && !isAttached(devicePrograms, group, program) ? { value: 0n } : undefined
  },
  once: {
    conflictErrno: errno('ENOENT'),
    key: ({ group, program }) => [...inodeOf(group), ...nameOf(program)],
    fingerprint: attachedTo,
  },
}

export const updateLink: Verb<Verbs['updateLink']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe:
    "Only a link of this container, on a cgroup below the container's own, gets another program that this container " +
    "loaded. Intercede checks the link that it opens by the number of the caller's descriptor.",
  run({ link, program, flags, old }, caller) {
    const { devicePrograms } = caller
    using fd = devicePrograms.open(program)
    using before = old && devicePrograms.open(old)
    using opened = devicePrograms.openLink(link)
    caller.note(programOfLink(opened, caller) === program.id ? 0n : WAS_NOT)
    caller.act(steps.changePrograms, () => update(opened, fd, flags, before))
    return { value: 0n }
  },
  recover({ link, program }, caller, { note }) {
    using opened = caller.devicePrograms.openLink(link)
    return note === WAS_NOT && programOfLink(opened, caller) === program.id ? { value: 0n } : undefined
  },
  /** The link no longer has the program that BPF_F_REPLACE asks for. */
  once: {
    conflictErrno: errno('EPERM'),
    isReplayable: ({ flags }) => (flags & BPF_F_REPLACE) !== 0,
    key: ({ link, program, old }) => [link.id, ...nameOf(program), ...(old ? nameOf(old) : [])],
    fingerprint: ({ link }, caller) =>
      orElse(undefined, () => {
        using opened = caller.devicePrograms.openLink(link)
        return [programOfLink(opened, caller)]
      }),
  },
}

/** The number of the program that a link attaches; also asked after the act, when the call may be cancelled. */
function programOfLink(link: Handle, caller: Caller): number {
  const info = caller.look(steps.askPrograms, () => objectInfo(link))
  return new DataView(info.buffer).getUint32(LINK_INFO.program, true)
}

export const detachLink: Verb<Verbs['detachLink']> = {
  steps: [steps.changePrograms, steps.askPrograms, steps.findProgram],
  safe: "The link is found as in `updateLink`. Newer kernels let anyone with a link's descriptor detach it.",
  run({ link }, caller) {
    using opened = caller.devicePrograms.openLink(link)
    caller.act(steps.changePrograms, () => takeLink(opened))
    return { value: 0n }
  },
}

export const listPrograms: Verb<Verbs['listPrograms']> = {
  steps: [steps.askPrograms],
  safe:
    "Nothing changes. The caller learns only the numbers of its container's programs on a cgroup below the " +
    "container's own.",
  run({ group, room, idsAt, flagsOfEachAt, attachFlagsAt, countAt, revisionAt }, caller) {
    const { flags, ids, revision } = caller.act(steps.askPrograms, () => attachedPrograms(group))
    const own = ids.filter((id) => caller.devicePrograms.numbered(id))
    const writes: Write[] = [
      { at: attachFlagsAt, bytes: words(flags) },
      { at: countAt, bytes: words(own.length) },
    ]
    // A shorter argument lacks the member; the kernel writes it all the same (6.17 and 6.18).
    if (revisionAt !== undefined)
      writes.push({ at: revisionAt, bytes: new Uint8Array(BigUint64Array.of(revision).buffer) })
    if (room === 0 || idsAt === 0n || own.length === 0) return { value: 0n, writes }
    const listed = own.slice(0, room)
    writes.push({ at: idsAt, bytes: words(...listed) })
    if (flagsOfEachAt !== 0n) writes.push({ at: flagsOfEachAt, bytes: words(...listed.map(() => flags)) })
    return { value: 0n, writes, ...(own.length > room ? { errno: errno('ENOSPC') } : {}) }
  },
}

const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)
