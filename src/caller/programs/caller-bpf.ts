import { BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI, BPF_LINK_TYPE_CGROUP, LINK_INFO, PROG_INFO } from '../../abi/bpf-attr.ts'
import { errno } from '../../abi/errno.ts'
import type { DevicePrograms as Contract, Group, NoGroup, OwnProgram } from '../../calls/device-programs.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import { steps } from '../../calls/steps.ts'
import { type Attached, attachedPrograms, objectInfo, programById } from '../../kernel/bpf.ts'
import { orUndefined, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { statx } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { pipe } from '../../kernel/pipe.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import type { BpfProgramStore } from './bpf-program-store.ts'
import { cgroupProblem, foreignProcesses, locate, reopen, strangersAtLast } from './cgroup-lookup.ts'

/** An engine is young for so many seconds. */
const YOUNG_S = 30
/** So often a young one looks at a group that somebody is in. */
const LOOKS = 300

/** What procfs says of a descriptor of a link. */
const LINK = 'anon_inode:bpf_link'

/** What the call of one caller needs of its thread, container and descriptors. */
export interface BpfContext {
  readonly identity: ThreadIdentity
  readonly container: Container
  readonly store: BpfProgramStore
  readonly proc: Handle
  /** A handle without the right to read or write of what the caller's descriptor names; undefined if it names nothing. */
  readonly handleOf: (fd: number) => Handle | undefined
  /** A copy of the caller's descriptor itself, if its link in procfs says so; undefined if not. */
  readonly copyOf: (fd: number, kind: string) => Fd | undefined
  readonly mayBlock: () => void
  /** Keeps what is opened until the call is over. */
  readonly own: (fd: Fd) => Fd
}

/** Cgroups and device programs, as the thread that made the call names them. */
export class CallerBpf implements Contract {
  readonly #around: BpfContext

  constructor(around: BpfContext) {
    this.#around = around
  }

  loading<T>(load: () => T): T {
    const { container, store, mayBlock } = this.#around
    // The verifier walks a million instructions of a program that has a hundred: kernel/bpf/verifier.c do_check().
    mayBlock()
    return store.loading(container.index, mayBlock, load)
  }

  get barred(): ReasonCode | undefined {
    const { identity, container, proc, mayBlock } = this.#around
    const home = this.#home
    identity.with(steps.lookClosely)
    return cgroupProblem(home) ?? this.#strangers(() => foreignProcesses(home!, container.userns, proc, mayBlock))
  }

  /** What an engine that was killed had in the group is there for a moment still: who is not gone soon is a stranger. */
  #strangers(look: () => ReasonCode | undefined): ReasonCode | undefined {
    return strangersAtLast(process.uptime() < YOUNG_S ? LOOKS : 1, this.#around.mayBlock, look)
  }

  group(fd: number): Group | NoGroup {
    const { identity, handleOf, own } = this.#around
    const candidate = handleOf(fd)
    if (!candidate) return 'notOpen'
    identity.with(steps.lookClosely)
    return locate(this.#home!, candidate, own)
  }

  named(fd: number): OwnProgram | 'notOpen' | 'notOurs' {
    const { container, store, handleOf } = this.#around
    const handle = handleOf(fd)
    if (!handle) return 'notOpen'
    const identity = pipeIdentity(handle)
    return (identity !== undefined && store.named(container.index, identity)) || 'notOurs'
  }

  numbered(id: number): OwnProgram | undefined {
    const { container, store } = this.#around
    return store.numbered(container.index, id)
  }

  attached(group: Handle): Attached {
    this.#around.identity.with(steps.askPrograms)
    return attachedPrograms(group)
  }

  loosens(above: readonly Handle[]): boolean {
    return above.some((group) => {
      const { flags, ids } = this.attached(group)
      return ids.length > 0 && (flags & BPF_F_ALLOW_MULTI) === 0
    })
  }

  open(program: OwnProgram): Fd {
    const { container, store } = this.#around
    const fd = store.open(container.index, program) ?? this.#find(program)
    if (!fd) throw new SyscallError('bpf', errno('ENOENT'))
    return fd
  }

  standIn(program: Fd): Fd | undefined {
    const { identity, container, store } = this.#around
    using kept = program
    identity.with(steps.askPrograms)
    const about = describe(kept)
    const { read, write } = identity.countedApart(pipe)
    using standIn = write
    const { ino: inode } = statx(read.raw)
    const standing = { ...about, program: kept, standIn, inode }
    if (store.add(container.index, standing, (other) => this.#exists(other))) return read
    read[Symbol.dispose]()
    return undefined
  }

  link(fd: number): Handle | undefined {
    const { identity, copyOf, own } = this.#around
    const link = copyOf(fd, LINK)
    if (!link) return undefined
    const id = this.#groupOfLink(own(link))
    if (id === undefined || !this.#home) return undefined
    identity.with(steps.lookClosely)
    const group = reopen(this.#home, id)
    // It attaches nothing any more: the kernel knows whether it has noticed that yet.
    if (!group) return link
    own(group)
    return typeof locate(this.#home, group, own) === 'string' ? undefined : link
  }

  get #home(): Handle | undefined {
    const raw = this.#around.container.handles?.cgroup
    return raw === undefined ? undefined : { raw, [Symbol.dispose]: () => {} }
  }

  /** The id of the cgroup to which a link of a device program of this container is attached; 0 if to none any more. */
  #groupOfLink(link: Handle): bigint | undefined {
    this.#around.identity.with(steps.askPrograms)
    // It may be no object of bpf at all.
    return orUndefined('any', () => {
      const info = new DataView(objectInfo(link).buffer)
      const isDevice =
        info.byteLength >= LINK_INFO.attachType + 4 &&
        info.getUint32(LINK_INFO.type, true) === BPF_LINK_TYPE_CGROUP &&
        info.getUint32(LINK_INFO.attachType, true) === BPF_CGROUP_DEVICE
      if (!isDevice || !this.numbered(info.getUint32(LINK_INFO.program, true))) return undefined
      return info.getBigUint64(LINK_INFO.cgroup, true)
    })
  }

  #exists(program: OwnProgram): boolean {
    using fd = this.#find(program)
    return fd !== undefined
  }

  #find({ id, loaded }: OwnProgram): Fd | undefined {
    const { identity } = this.#around
    identity.with(steps.findProgram)
    const fd = orUndefined(['ENOENT'], () => programById(id))
    if (!fd) return undefined
    identity.with(steps.askPrograms)
    if (describe(fd).loaded === loaded) return fd
    fd[Symbol.dispose]()
    return undefined
  }
}

function describe(program: Handle): OwnProgram {
  const info = new DataView(objectInfo(program).buffer)
  return { id: info.getUint32(PROG_INFO.id, true), loaded: info.getBigUint64(PROG_INFO.loadTime, true) }
}

/** The file system of all pipes. */
let pipes: bigint | undefined

/** The inode of a pipe; undefined for anything else. */
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
