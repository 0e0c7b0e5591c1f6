import type { PathBytes, Tid } from '../../abi/brand.ts'
import { type IdExtent, toInside } from '../../abi/credentials.ts'
import { errno, errnos } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import { attributesOf } from '../../abi/mount.ts'
import { PIDFD_THREAD } from '../../abi/process.ts'
import { TMPFS_MAGIC } from '../../abi/stat.ts'
import {
  type Context,
  type DetachedMount,
  type Keeping,
  type Kept,
  type KeptName,
  type MountManner,
  noteOfKept,
  type Parameter,
  type Told,
} from '../../calls/context.ts'
import {
  BPFFS,
  type FdForCaller,
  type MountCall,
  type Mounts,
  type NodeRequest,
  type RemountCall,
  type SuperblockRequest,
  TMPFS,
} from '../../calls/mounts.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError, Refused } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import { dup, Fd, type Handle, kcmpFile, orClose, sharesFds } from '../../kernel/fd.ts'
import { fileSystemId, fileSystemType, fstatfs, mountId, openat, read, statx } from '../../kernel/files.ts'
import { ownerOf, pidfdOpen } from '../../kernel/pidfd.ts'
import { findMount, type Mount } from '../../kernel/procfs/mountinfo.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'
import { callerHolds, heldAs, known, rootOfMount } from '../programs/held-fds.ts'
import { procLine } from '../task/same-as-init.ts'
import { MounterLost, type MounterRequest, type MounterState, MountRefused, requestMount } from './mounter-client.ts'

/**
 * Returns a mount's line of a task's mountinfo, see proc_pid_mountinfo(5).
 *
 * @param task the task's `/proc/TID`
 * @param number the mount's id
 * @returns undefined if the mount is not below the root directory of the task
 */
export function mountinfoEntry(task: Handle, number: number): Mount | undefined {
  const line = procLine(task, 'mountinfo', `${number} `)
  return line === undefined ? undefined : findMount(line, number)
}

/**
 * Tells whether this tmpfs was mounted outside of the user namespace with these maps and its descendants. The options
 * show the uid and gid that the root directory had at first, unless they are the host's root; whoever asked for them,
 * they are ids of the user namespace in which the tmpfs was mounted.
 *
 * @param line the mount's line of mountinfo, as the host reads it
 * @see linux/mm/shmem.c shmem_show_options(), shmem_parse_one()
 */
export function isTmpfsOfHost(mount: Mount, uidMap: readonly IdExtent[], gidMap: readonly IdExtent[]): boolean {
  if (mount.type !== 'tmpfs') return false
  const idOf = (kind: 'uid' | 'gid'): number =>
    Number(mount.superOptions.find((option) => option.startsWith(`${kind}=`))?.slice(kind.length + 1) ?? 0)
  return toInside(uidMap, idOf('uid')) === undefined || toInside(gidMap, idOf('gid')) === undefined
}

/** What the engine provides for mounts. */
export interface MountServices {
  /**
   * Lends a mounter to this thread. @returns its socket; undefined if the container has its maximum of mounts in
   * flight
   */
  readonly lend: (container: Container) => number | undefined
  readonly giveBack: (socket: number, state: MounterState) => void
  readonly keeping: Keeping
  /** The file systems that were made for containers, and may be changed for them. */
  readonly made: {
    add(container: number, id: bigint): void
    has(container: number, id: bigint): boolean
  }
  /** Called when a context or mount was stored, which must be released some day. */
  readonly onKept: () => void
  /**
   * Called when all descriptors of mounts that a call had are closed. Returns once no other process has copies of
   * them.
   */
  readonly settle: () => void
}

/** The caller, as far as mounts need it. */
interface MountCaller {
  readonly tid: Tid
  readonly container: Container
  readonly identity: ThreadIdentity
  readonly services: MountServices
  /** Returns the caller's `/proc/TID`. */
  readonly task: () => Handle
  readonly status: () => ProcStatus
  readonly waits: () => boolean
  /** Called before the thread waits for another process. */
  readonly mayBlock: () => void
  /** Takes ownership of a handle, and closes it when the call is over. */
  readonly own: <T extends Disposable>(handle: T) => T
}

/** A file in the directory of a cgroup. */
const FREEZE = Buffer.from('cgroup.freeze\0')
const NS_MNT = Buffer.from('ns/mnt\0')

export class CallerMounts implements Mounts {
  readonly #caller: MountCaller
  #mounter: Handle | undefined
  #state: MounterState = 'done'
  /** The thread, if its descriptor table is not that of its process. */
  #alone: Tid | undefined

  constructor(caller: MountCaller) {
    this.#caller = caller
  }

  namespace(): Handle {
    const { identity, task, own, container, tid } = this.#caller
    identity.with(steps.look)
    const process = this.#holder
    if (tid !== process && !sharesFds(tid, process)) this.#alone = tid
    const mounts = own(openat(task().raw, NS_MNT, O_RDONLY))
    using owner = ownerOf(mounts)
    // A container without a mount namespace of its own shares the host's, in which nothing is ever mounted.
    if (statx(owner.raw).ino !== container.userns) throw new ContinueError('hostMounts')
    return mounts
  }

  mount({ flags, source: { node, ...source }, ...rest }: MountCall): Handle {
    const request = { do: 'mount', ...rest, source, flags: flags.toString(16) } as const
    const tree = this.#ask(request, [this.#caller.task(), this.#userns, ...maybe(node)])[0]!
    this.#remember(rest.type, tree)
    return tree
  }

  #remember(type: string, tree: Handle): void {
    if (type === TMPFS) this.#caller.services.made.add(this.#caller.container.index, fileSystemId(tree))
  }

  isMade(file: Handle): boolean {
    const { container, services, mayBlock } = this.#caller
    mayBlock()
    return fileSystemType(file) === TMPFS_MAGIC && services.made.has(container.index, fileSystemId(file))
  }

  remount({ target, namespace, flags, data }: RemountCall): void {
    const request = { do: 'remount', flags: flags.toString(16), ...(data === undefined ? {} : { data }) } as const
    this.#ask(request, [target, namespace])
  }

  makeNode({ dir, name, mode, dev }: NodeRequest, own: number): void {
    const { status, mayBlock } = this.#caller
    const { uids, gids, groups, umask } = status()
    mayBlock()
    const as = { uid: uids[3], gid: gids[3], groups: [...groups], umask }
    const text = Buffer.from(name.subarray(0, -1)).toString('latin1')
    this.#ask({ do: 'node', name: text, mode, dev, as, own }, [this.#caller.task(), dir])
  }

  changeAttribute(inode: Handle, name: PathBytes, to?: { readonly value: Uint8Array; readonly flags: number }): void {
    this.#caller.mayBlock()
    const text = Buffer.from(name.subarray(0, -1)).toString('latin1')
    const value = to && { value: Buffer.from(to.value).toString('base64'), flags: to.flags }
    this.#ask({ do: 'attribute', name: text, ...value }, [this.#caller.task(), inode])
  }

  pick(root: Handle): FdForCaller {
    const { container, services } = this.#caller
    const [given, made] = this.#ask({ do: 'pick' }, [this.#caller.task(), root])
    using kept = given!
    using ours = made!
    const fd = dup(kept)
    return this.#given(fd, services.keeping.addPicked(container, { type: TMPFS, given: kept, ours }, this.#holder))
  }

  reconfigure(picked: Handle, parameters: readonly Parameter[]): void {
    this.#ask({ do: 'reconfigure', parameters }, [picked])
  }

  attach(
    tree: Handle,
    { target, namespace }: { readonly target: Handle; readonly namespace: Handle },
    isNew: boolean,
  ): void {
    this.#ask({ do: 'attach', isNew }, [tree, target, namespace, this.#caller.task()])
  }

  openContext(type: string): FdForCaller {
    const { container, services } = this.#caller
    const [given] = this.#ask({ do: 'open', type }, [this.#caller.task()])
    using kept = given!
    const fd = dup(kept)
    return this.#given(fd, services.keeping.addContext(container, kept, type, this.#holder))
  }

  context(fd: number): Context | undefined {
    const { tid, container, identity, services } = this.#caller
    if (!services.keeping.has(container)) return undefined
    identity.with(steps.look)
    return this.#mine(services.keeping.findContext(container, (opened) => kcmpFile(tid, fd, opened)))
  }

  adopt(fd: number): Context {
    const { tid, container, identity, services, waits } = this.#caller
    identity.with(steps.look)
    // Only a kernel with pidfds of threads has BPF tokens.
    using thread = orNoBpffs(() => pidfdOpen(tid, PIDFD_THREAD))
    if (!waits()) throw new ContinueError('gone')
    const gid = this.#caller.status().gids[3]
    const [opened] = orNoBpffs(() => this.#ask({ do: 'adopt', fd, gid }, [thread]))
    const kept = services.keeping.addContext(container, opened!, BPFFS, this.#holder)
    if (!kept) {
      opened![Symbol.dispose]()
      throw new Refused('tooManyContexts', errno('EMFILE'))
    }
    services.onKept()
    kept.tell(fd)
    const context = this.context(fd)
    if (context) return context
    // Another thread has put another file there meanwhile.
    kept.tell(undefined)
    throw new ContinueError('foreignContext')
  }

  createBpffs({ handle }: Context, parameters: readonly Parameter[]): void {
    this.#ask({ do: 'createBpffs', parameters }, [this.#caller.task(), handle])
  }

  create({ source: { node, ...source }, ...rest }: SuperblockRequest): Fd {
    const [made] = this.#ask({ do: 'create', ...rest, source }, [this.#caller.task(), ...maybe(node)])
    return made!
  }

  finish(made: Handle, attributes: bigint, manner: MountManner, told: Told): FdForCaller {
    const request = { do: 'finish', attributes: attributes.toString(16), ...manner } as const
    const answer = this.#ask(request, [made, this.#userns, this.#caller.task()])
    orClose(answer, () => this.#remember(told.type, answer[0]!))
    return this.#keep(answer, told, manner)
  }

  attributes({ handle }: Pick<DetachedMount, 'handle'>): bigint {
    // statfs(2) may have to ask the server of the file system.
    this.#caller.mayBlock()
    return attributesOf(fstatfs(handle).flags)
  }

  renew({ unlockedCopy, manner, ...told }: DetachedMount, attributes: bigint): FdForCaller {
    const request = { do: 'renew', attributes: attributes.toString(16) } as const
    return this.#keep(this.#ask(request, [unlockedCopy!, this.#caller.task()]), told, manner)
  }

  lock(tree: Handle): Fd {
    return this.#ask({ do: 'lock' }, [tree])[0]!
  }

  #keep([tree, root, unlockedCopy]: readonly Fd[], told: Told, manner: MountManner): FdForCaller {
    const { container, services } = this.#caller
    using made = tree!
    using copy = unlockedCopy
    return orClose([root!], () => {
      using given = dup(root!)
      const kept = { root: given, tree: made, unlockedCopy: copy, told, manner }
      return this.#given(root!, services.keeping.addMount(container, kept, this.#holder))
    })
  }

  unplaced(fd: number): DetachedMount | undefined {
    const { container, identity, services, task } = this.#caller
    if (!services.keeping.has(container)) return undefined
    using root = identity.searching(() => rootOfMount(task(), fd))
    if (!root) return undefined
    const id = mountId(root)
    return this.#mine(services.keeping.findMount(container, (tree) => mountId(tree) === id))
  }

  tidy(): void {
    const { container, identity, services } = this.#caller
    if (services.keeping.has(container)) identity.searching(() => services.keeping.tidy(container, callerHolds))
  }

  #mine<T extends Disposable>(found: T | 'busy' | undefined): T | undefined {
    if (found === 'busy') throw new Refused('contextBusy', errno('EBUSY'))
    if (!found) return undefined
    this.#caller.own(found)
    if (!this.#caller.waits()) throw new ContinueError('gone')
    return found
  }

  given(name: KeptName): number | undefined {
    const { container, identity, services } = this.#caller
    const numberIn = (given: Handle, process: Tid): number | undefined => known(heldAs(process, given))
    return identity.searching(() => services.keeping.given(container, name, numberIn))
  }

  #given(fd: Fd, kept: Kept | undefined): FdForCaller {
    if (!kept) {
      fd[Symbol.dispose]()
      throw new Refused('tooManyContexts', errno('EMFILE'))
    }
    this.#caller.services.onKept()
    return { fd, sent: kept.tell, note: noteOfKept(kept.name) }
  }

  /** Whose descriptor table is the caller's, once `namespace` has asked. */
  get #holder(): Tid {
    return this.#alone ?? (this.#caller.status().tgid as Tid)
  }

  get #userns(): Handle {
    const raw = this.#caller.container.handles?.userns
    if (raw === undefined) throw new ContinueError('unknownContainer')
    return new Fd(raw)
  }

  #ask(request: MounterRequest, handles: readonly Handle[]): readonly Fd[] {
    const { waits, identity } = this.#caller
    identity.with(steps.askMounter)
    const mounter = this.#lent()
    if (request.do !== 'attach' && this.#isKilled) throw new ContinueError('gone')
    try {
      return requestMount(mounter, request, handles, { waits, isFrozen: () => this.#isFrozen })
    } catch (error) {
      if (!(error instanceof MounterLost)) throw refusal(error)
      this.#state = error.state
      throw waits() ? refusal(error) : new ContinueError('gone')
    }
  }

  /**
   * Tells whether the caller is gone for good, so that nothing need be made for it. A call that a signal has cancelled
   * is done nevertheless: it comes again, and may be cancelled each time before it is done.
   */
  get #isKilled(): boolean {
    return this.#caller.container.waitKillable && !this.#caller.waits()
  }

  get #isFrozen(): boolean {
    const group = this.#caller.container.handles?.cgroup
    if (group === undefined) return false
    using file = openat(group, FREEZE, O_RDONLY)
    const state = Buffer.alloc(1)
    return read(file, state) === 1 && state.toString() === '1'
  }

  /** Returns the mounter of this call: the same for all of its requests, and given back when the call is over. */
  #lent(): Handle {
    if (this.#mounter) return this.#mounter
    const { container, services, mayBlock, own } = this.#caller
    mayBlock()
    const socket = services.lend(container)
    if (socket === undefined) throw new Refused('mountsBusy', errno('EAGAIN'))
    own({ [Symbol.dispose]: () => services.giveBack(socket, this.#state) })
    this.#mounter = new Fd(socket)
    return this.#mounter
  }
}

const maybe = (node: Handle | undefined): readonly Handle[] => (node ? [node] : [])

/** Leaves the call to the kernel if there is no such context. */
function orNoBpffs<T>(look: () => T): T {
  try {
    return look()
  } catch (error) {
    throw error instanceof SyscallError ? new ContinueError('notBpffs') : error
  }
}

function refusal(error: unknown): unknown {
  if (error instanceof MounterLost)
    return error.ended ? new Refused('mounterEnded', errno('EIO')) : new Refused('mountStuck', errno('ETIMEDOUT'))
  if (!(error instanceof MountRefused)) return error
  const code = reasonOf(error)
  return new Refused(code, error.errno, code === 'kernelAnswered' ? error.errno : undefined)
}

const STAGES = { groups: 'groupsNotJoined', shift: 'cannotShift', type: 'namesHost' } as const
/** Reasons why a caller cannot use its source, by the errno that it gets. */
const SOURCES: Readonly<Partial<Record<number, ReasonCode>>> = {
  [errnos.ENOENT]: 'sourceMissing',
  [errnos.EPERM]: 'sourceBarred',
  [errnos.EACCES]: 'sourceClosed',
}
const reasonOf = ({ stage, errno }: MountRefused): ReasonCode =>
  stage === 'source' ? (SOURCES[errno] ?? 'kernelAnswered') : STAGES[stage]
