import { BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI, BPF_LINK_TYPE_CGROUP, LINK_INFO, PROG_INFO } from '../../abi/bpf.ts'
import type { Tid } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { noteOfStandIn } from '../../calls/context.ts'
import type {
  DevicePrograms as Contract,
  Group,
  NoGroup,
  OwnLink,
  OwnProgram,
  StandIn,
} from '../../calls/device-programs.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { type Attached, attachedPrograms, linkById, objectInfo, programById } from '../../kernel/bpf.ts'
import { orUndefined, SyscallError } from '../../kernel/error.ts'
import { type Fd, type Handle, orClose, pipe } from '../../kernel/fd.ts'
import { statx } from '../../kernel/files.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { BpfProgramStore, Exists } from './bpf-program-store.ts'
import { cgroupProblem, foreignProcesses, lastingForeignProcesses, locate, reopen } from './cgroup-lookup.ts'
import { known, pipeHeldAs } from './held-fds.ts'

/** Seconds after its start during which processes of the previous engine may still be in the container's cgroup. */
const YOUNG_S = 30
/** The id of the cgroup of a link that attaches nothing any more. */
const DETACHED = 0n
/**
 * Number of looks, 10 ms apart, at a cgroup with foreign processes: later, and during the first YOUNG_S seconds of an
 * engine. What a runtime starts in the container, such as a health check, is foreign for some milliseconds.
 */
const LOOKS = { usual: 10, young: 300 } as const

/** A BPF link that attaches a program to a cgroup, as `fdinfo` describes it. */
export interface CgroupLink extends OwnLink {
  readonly program: number
  readonly attachType: number
}

/** What `CallerBpf` needs of the thread, the container and the caller's descriptors. */
export interface BpfContext {
  readonly identity: ThreadIdentity
  readonly container: Container
  readonly store: BpfProgramStore
  readonly proc: Handle
  /** Returns an O_PATH handle of the object behind the caller's descriptor; undefined if the descriptor is not open. */
  readonly handleOf: (fd: number) => Handle | undefined
  /** Returns the BPF link for which the caller's descriptor is open; undefined if it is for none. */
  readonly linkOf: (fd: number) => CgroupLink | undefined
  readonly tgid: () => Tid
  readonly mayBlock: () => void
  /** Keeps a descriptor open until the call is over. */
  readonly own: (fd: Fd) => Fd
}

/** Resolves the cgroups and device programs that the calling thread names by descriptors. */
export class CallerBpf implements Contract {
  readonly #context: BpfContext

  constructor(context: BpfContext) {
    this.#context = context
  }

  loading<T>(isShort: boolean, load: () => T): T {
    const { container, store, mayBlock } = this.#context
    // The verifier may walk a million instructions of a program that has a hundred (kernel/bpf/verifier.c
    // do_check()).
    if (!isShort) mayBlock()
    return store.loading(container.index, mayBlock, load)
  }

  get barred(): ReasonCode | undefined {
    const { identity, container, proc, mayBlock } = this.#context
    const home = this.#home
    identity.with(steps.lookClosely)
    return (
      problemOf(container, home) ??
      this.#foreignProcesses(() => foreignProcesses(home!, container.userns, proc, mayBlock))
    )
  }

  /**
   * Looks for foreign processes in the container's cgroup. Processes of a killed engine stay there for a moment, so a
   * new engine looks for longer: only a process that does not go away soon is foreign.
   */
  #foreignProcesses(look: () => ReasonCode | undefined): ReasonCode | undefined {
    return lastingForeignProcesses(process.uptime() < YOUNG_S ? LOOKS.young : LOOKS.usual, this.#context.mayBlock, look)
  }

  group(fd: number): Group | NoGroup {
    const { identity, handleOf, own } = this.#context
    const candidate = handleOf(fd)
    if (!candidate) return 'notOpen'
    identity.with(steps.lookClosely)
    return locate(this.#home!, candidate, own)
  }

  named(fd: number): OwnProgram | 'notOpen' | 'notOurs' {
    const { container, store, handleOf } = this.#context
    const handle = handleOf(fd)
    if (!handle) return 'notOpen'
    const identity = pipeIdentity(handle)
    return (identity !== undefined && store.named(container.index, identity)) || 'notOurs'
  }

  numbered(id: number): OwnProgram | undefined {
    const { container, store } = this.#context
    return store.numbered(container.index, id)
  }

  attached(group: Handle): Attached {
    this.#context.identity.with(steps.askPrograms)
    return attachedPrograms(group)
  }

  loosens(above: readonly Handle[]): boolean {
    return above.some((group) => {
      const { flags, ids } = this.attached(group)
      return ids.length > 0 && (flags & BPF_F_ALLOW_MULTI) === 0
    })
  }

  open(program: OwnProgram): Fd {
    const { container, store } = this.#context
    const fd = store.open(container.index, program) ?? this.#find(program)
    if (!fd) throw new SyscallError('bpf', errno('ENOENT'))
    return fd
  }

  given(inode: bigint): number | undefined {
    const { container, store, identity, tgid } = this.#context
    if (!store.named(container.index, inode)) return undefined
    return identity.searching(() => known(pipeHeldAs(tgid(), inode)))
  }

  standIn(program: Fd): StandIn | undefined {
    const { identity, container, store, mayBlock } = this.#context
    using kept = program
    identity.with(steps.askPrograms)
    const about = describe(kept)
    const { read, write } = identity.countedApart(pipe)
    using standIn = write
    const inode = orClose([read], () => statx(read.raw).ino)
    const entry = { ...about, program: kept, standIn, inode }
    const isAdded = orClose([read], () => store.add(container.index, entry, this.#exists, mayBlock))
    if (isAdded) return { fd: read, note: noteOfStandIn(inode) }
    read[Symbol.dispose]()
    return undefined
  }

  countLink(link: Fd): boolean {
    const { identity, container, store, mayBlock } = this.#context
    identity.with(steps.askPrograms)
    const id = new DataView(objectInfo(link).buffer).getUint32(LINK_INFO.id, true)
    return store.addLink(container.index, id, this.#exists, mayBlock)
  }

  link(fd: number): OwnLink | undefined {
    const { identity, linkOf, own } = this.#context
    const link = linkOf(fd)
    if (link?.attachType !== BPF_CGROUP_DEVICE || !this.numbered(link.program) || !this.#home) return undefined
    identity.with(steps.lookClosely)
    const group = reopen(this.#home, link.group)
    // The cgroup was removed, so the link attaches nothing; the kernel decides whether it has noticed this yet.
    if (!group) return link
    own(group)
    return typeof locate(this.#home, group, own) === 'string' ? undefined : link
  }

  openLink({ id, group }: OwnLink): Fd {
    this.#context.identity.with(steps.findProgram)
    const link = linkById(id)
    const found = link && orClose([link], () => this.#describeLink(link))
    if (found && this.numbered(found.program) && (found.group === group || found.group === DETACHED)) return link
    link?.[Symbol.dispose]()
    throw new ContinueError('notOurs')
  }

  get #home(): Handle | undefined {
    const raw = this.#context.container.handles?.cgroup
    return raw === undefined ? undefined : { raw, [Symbol.dispose]: () => {} }
  }

  /** Returns the program of a link of device programs, and the id of its cgroup, or DETACHED. */
  #describeLink(link: Handle): { readonly program: number; readonly group: bigint } | undefined {
    this.#context.identity.with(steps.askPrograms)
    const info = new DataView(objectInfo(link).buffer)
    const isDevice =
      info.byteLength >= LINK_INFO.attachType + 4 &&
      info.getUint32(LINK_INFO.type, true) === BPF_LINK_TYPE_CGROUP &&
      info.getUint32(LINK_INFO.attachType, true) === BPF_CGROUP_DEVICE
    if (!isDevice) return undefined
    return { program: info.getUint32(LINK_INFO.program, true), group: info.getBigUint64(LINK_INFO.cgroup, true) }
  }

  readonly #exists: Exists = {
    program: (program) => {
      using fd = this.#find(program)
      return fd !== undefined
    },
    link: (id) => {
      this.#context.identity.with(steps.findProgram)
      using link = linkById(id)
      return link !== undefined && this.#describeLink(link) !== undefined
    },
  }

  #find({ id, loaded }: OwnProgram): Fd | undefined {
    const { identity } = this.#context
    identity.with(steps.findProgram)
    const fd = programById(id)
    if (!fd) return undefined
    identity.with(steps.askPrograms)
    if (orClose([fd], () => describe(fd).loaded) === loaded) return fd
    fd[Symbol.dispose]()
    return undefined
  }
}

/**
 * Containers whose cgroup is not the root of a mount. No cgroup of v2 can be moved, and a container's handle is always
 * of the same cgroup, so this is found out once.
 */
const belowRoot = new WeakSet<Container>()

function problemOf(container: Container, home: Handle | undefined): ReasonCode | undefined {
  if (belowRoot.has(container)) return undefined
  const problem = cgroupProblem(home)
  if (!problem) belowRoot.add(container)
  return problem
}

function describe(program: Handle): OwnProgram {
  const info = new DataView(objectInfo(program).buffer)
  return { id: info.getUint32(PROG_INFO.id, true), loaded: info.getBigUint64(PROG_INFO.loadTime, true) }
}

/** The device number of pipefs, the file system of all pipes. */
let pipes: bigint | undefined

/** Returns the inode number of a pipe; undefined for any other object. */
function pipeIdentity(handle: Handle): bigint | undefined {
  return orUndefined('any', () => {
    const { dev, ino } = statx(handle.raw)
    pipes ??= pipeFileSystem()
    return dev === pipes ? ino : undefined
  })
}

function pipeFileSystem(): bigint {
  const { read, write } = pipe()
  using one = read
  using _ = write
  return statx(one.raw).dev
}
