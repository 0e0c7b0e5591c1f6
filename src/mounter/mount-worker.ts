import { randomBytes } from 'node:crypto'
import type { HostId, Mode, PathBytes } from '../abi/brand.ts'
import { capMask } from '../abi/credentials.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { ACCESS_TIMES, laterOf, MOUNT_ATTR_NODEV, MS_RDONLY, SET_LATER } from '../abi/mount.ts'
import { CLONE_NEWNS } from '../abi/process.ts'
import { PAGE } from '../abi/system.ts'
import { type Ids, type MounterRequest, MountRefused } from '../caller/mounts/mounter-client.ts'
import type { MountManner, Parameter } from '../calls/context.ts'
import type { Source } from '../calls/mounts.ts'
import { capsOf, steps } from '../calls/steps.ts'
import { setFsgid, setFsuid, setGroups } from '../kernel/credentials.ts'
import { ignoring, orFalse, SyscallError } from '../kernel/error.ts'
import { dup, type Fd, type Handle, orClose } from '../kernel/fd.ts'
import { changeDirectory, isMountRoot, linkOf, mknodat, openat, read, readlink, statx, umask } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import {
  fsconfigCreate,
  fsconfigReconfigure,
  fsconfigSet,
  fsmount,
  fsopen,
  fspick,
  mountRaw,
  mountSetattr,
  moveMount,
  openTree,
  remountHere,
  unmount,
} from '../kernel/mount.ts'
import { pidfdGetfd } from '../kernel/pidfd.ts'
import { setns } from '../kernel/process.ts'
import { removexattr, setxattr } from '../kernel/xattr.ts'
import { restoreOrDie } from '../processes/helper.ts'
import type { OwnCaps } from '../processes/process-caps.ts'
import { insideCgroupsOf } from './join-cgroups.ts'
import type { MountLocker } from './mount-locker.ts'
import { mustBeOfDevice, openSource, orOwnErrno, SourceChroot, withoutName } from './mount-source.ts'

/**
 * Makes the checks of a target that mount(2) makes and move_mount(2) does not.
 *
 * @throws {SyscallError} EBUSY, ENOTDIR
 * @see linux/fs/namespace.c do_add_mount(), graft_tree()
 */
function checkTarget(tree: Handle, target: Handle): void {
  if (isRootOfSame(tree, target)) throw new SyscallError('mount', errno('EBUSY'))
  openat(AT_FDCWD, linkOf(target), O_PATH | O_DIRECTORY)[Symbol.dispose]()
}

/**
 * Tells whether the target is the root of the same file system. statx(2) is refused (EACCES) only by a file system of
 * the container, which is another one.
 */
const isRootOfSame = (tree: Handle, target: Handle): boolean =>
  orFalse(['EACCES'], () => isMountRoot(target) && statx(tree.raw).dev === statx(target.raw).dev)

type Asked<D extends MounterRequest['do']> = Extract<MounterRequest, { do: D }>

/** The root directory and mount namespace to which a mounter returns. */
interface Home {
  readonly root: Handle
  readonly mounts: Handle
}

const withNode = <D extends { readonly source: Source }>(request: D, node: Fd | undefined): D =>
  node ? { ...request, source: { ...request.source, node } } : request

const maybe = <T>(what: T | undefined): readonly T[] => (what === undefined ? [] : [what])

/** Requests that open a device: its rules must bind us. */
const OPENS: ReadonlySet<MounterRequest['do']> = new Set(['mount', 'create'])
const CGROUP_LIMIT = 64 * 1024
const DOT = cstring('.')

const ROOT = 0 as HostId
const OURSELVES: Ids = { uid: ROOT, gid: ROOT, groups: [], umask: 0o022 as Mode }

/**
 * Leaving root's id takes the capabilities over files out of effect.
 *
 * @see linux/security/commoncap.c cap_task_fix_setuid()
 */
function become({ uid, gid, groups, umask: mask }: Ids): void {
  umask(mask)
  setGroups(Uint32Array.from(groups))
  if (!setFsgid(gid) || !setFsuid(uid)) throw new Error('Cannot become a caller: ids do not read back')
}

const bytesOf = (text: string): Uint8Array => Buffer.from(`${text}\0`, 'latin1')

type MounterCaps = Pick<OwnCaps<MounterRequest['do'] | 'join' | 'nodeAsCaller'>, 'enter'>

/**
 * Does the work of a mounter, in a mount namespace of its own. Whatever it enters or mounts, it leaves by
 * `restoreOrDie`.
 */
export class MountWorker {
  readonly #home: Home
  readonly #locker: MountLocker
  readonly #caps: MounterCaps

  constructor(home: Home, locker: MountLocker, caps: MounterCaps) {
    this.#home = home
    this.#locker = locker
    this.#caps = caps
  }

  /** Serves one request. @returns the descriptors of the answer */
  serve(request: MounterRequest, handles: readonly Fd[]): readonly Fd[] {
    const [first, second, third, fourth] = handles
    switch (request.do) {
      case 'mount':
        return [this.#mount(withNode(request, third), first!, second!)]
      case 'create':
        return [this.#create(withNode(request, second), first!)]
      case 'finish':
        return this.#inGroups(third!, 'finish', () => this.#finish(request, first!, second!))
      case 'renew':
        return this.#inGroups(second!, 'renew', () => this.#renew(request, first!))
      case 'lock':
        return [this.#lockAlone(first!)]
      case 'attach':
        this.#inGroups(fourth!, 'attach', () => this.#attach(request, first!, second!, third!))
        return []
      case 'remount':
        this.#remount(request, first!, second!)
        return []
      case 'reconfigure':
        reconfigure(request, first!)
        return []
      case 'node':
        this.#node(request, first!, second!)
        return []
      case 'attribute':
        this.#attribute(request, first!, second!)
        return []
      case 'open':
        return [this.#inGroups(first!, 'open', () => fsopen(bytesOf(request.type)))]
      case 'pick':
        return this.#inGroups(first!, 'pick', () => [fspick(second!), fspick(second!)])
      case 'adopt':
        return [adopt(first!, request)]
      case 'createBpffs':
        this.#inGroups(first!, 'createBpffs', () => makeBpffs(request, second!))
        return []
      case 'greet':
        return []
    }
  }

  /** Makes a node in the caller's control groups, with its ids and with the capabilities that its own add. */
  #node({ name, mode, dev, as, own }: Asked<'node'>, task: Fd, dir: Fd): void {
    const caps = capMask('SETUID', 'SETGID', ...capsOf(steps.makeNode, own))
    this.#inGroups(task, 'node', () => {
      try {
        become(as)
        this.#caps.enter('nodeAsCaller', caps)
        mknodat(dir, bytesOf(name) as PathBytes, mode, dev)
      } finally {
        restoreOrDie(() => become(OURSELVES))
        this.#caps.enter('node')
      }
    })
  }

  #attribute({ name, value, flags = 0 }: Asked<'attribute'>, task: Fd, inode: Fd): void {
    using links = openat(AT_FDCWD, cstring('/proc/self/fd'), O_PATH | O_DIRECTORY)
    const attribute = bytesOf(name) as PathBytes
    this.#inGroups(task, 'attribute', () => {
      if (value === undefined) removexattr({ links, inode }, attribute)
      else setxattr({ links, inode }, attribute, Buffer.from(value, 'base64'), flags)
    })
  }

  #mount(request: Asked<'mount'>, task: Fd, userns: Fd): Fd {
    mustBeOfDevice(request)
    return this.#inGroups(task, 'mount', () => {
      using tree = this.#make(request)
      const [made, unlockedCopy] = this.#settle(
        tree,
        { ...request, later: laterOf(BigInt(`0x${request.flags}`)) },
        userns,
      )
      unlockedCopy?.[Symbol.dispose]()
      return made
    })
  }

  #make({ type, source, flags, data }: Asked<'mount'>): Fd {
    const usable = withoutName(openSource(source, type), type)
    using root = this.#rootFor(usable)
    const name = `.${randomBytes(8).toString('hex')}`
    const mountPoint = root.makeDirectory(name)
    const text = usable.text === undefined ? null : bytesOf(usable.text)
    const words = [...maybe(usable.first?.join('=')), ...maybe(data)]
    // Drivers of the old mount API may ignore `ro` among the options; then the kernel would open the device to write.
    const readOnly = 'dev' in usable.kind && !usable.kind.writable ? MS_RDONLY : 0n
    const options = {
      flags: BigInt(`0x${flags}`) | readOnly,
      data: words.length === 0 ? null : bytesOf(words.join(',')),
    }
    // mount(2) would leave out what is beyond the page, without a word.
    if ((options.data?.length ?? 0) > PAGE) throw new SyscallError('mount', errno('EINVAL'))
    orOwnErrno(usable, () => root.inside(() => mountRaw(bytesOf(type), text, `/${name}`, options)))
    try {
      return openTree(mountPoint)
    } finally {
      restoreOrDie(() => unmount(mountPoint))
    }
  }

  #create(request: Asked<'create'>, task: Fd): Fd {
    mustBeOfDevice(request)
    return this.#inGroups(task, 'create', () => this.#describe(request))
  }

  #describe({ type, source, parameters, exclusive }: Asked<'create'>): Fd {
    const usable = openSource(source, type)
    using root = this.#rootFor(usable)
    const context = fsopen(bytesOf(type))
    try {
      // Parameters may name paths too, so they are set inside the source's root directory.
      root.inside(() => {
        for (const parameter of [...maybe(usable.first), ...parameters]) tell(context, parameter)
        orOwnErrno(usable, () => fsconfigCreate(context, exclusive))
      })
      return context
    } catch (error) {
      context[Symbol.dispose]()
      throw error
    }
  }

  #finish({ attributes, ...manner }: Asked<'finish'>, context: Fd, userns: Fd): readonly Fd[] {
    const all = BigInt(`0x${attributes}`)
    using tree = fsmount(context, all & ~SET_LATER)
    return withRoot(this.#settle(tree, { ...manner, later: all & SET_LATER }, userns))
  }

  /** Returns the mount with other attributes, made from the copy that is not locked. */
  #renew({ attributes }: Asked<'renew'>, free: Fd): readonly Fd[] {
    const all = BigInt(`0x${attributes}`)
    mountSetattr(free, { clear: ACCESS_TIMES, set: all & ACCESS_TIMES })
    return withRoot(this.#lock(free, all & SET_LATER))
  }

  /**
   * Gives a detached mount its attributes. It is idmapped first, since a mount that was ever attached cannot be
   * idmapped.
   */
  #settle(
    tree: Fd,
    { shift, nodev, later }: MountManner & { readonly later: bigint },
    userns: Handle,
  ): readonly [Fd, Fd?] {
    if (shift) shiftTo(tree, userns)
    mountSetattr(tree, { clear: SET_LATER, set: nodev ? MOUNT_ATTR_NODEV : later })
    return nodev ? this.#lock(tree, later) : [dup(tree)]
  }

  #lock(tree: Handle, later: bigint): readonly [locked: Fd, free: Fd] {
    const { locked, free } = this.#locker.lock(tree)
    return orClose([locked, free], () => {
      if (later !== 0n) mountSetattr(locked, { set: later })
      return [locked, free]
    })
  }

  #lockAlone(tree: Fd): Fd {
    const { locked, free } = this.#locker.lock(tree)
    free[Symbol.dispose]()
    return locked
  }

  #attach({ isNew }: Asked<'attach'>, tree: Fd, target: Fd, mounts: Fd): void {
    if (isNew) checkTarget(tree, target)
    this.#among(mounts, () => moveMount(tree, target))
  }

  #remount({ flags, data }: Asked<'remount'>, root: Fd, mounts: Fd): void {
    this.#among(mounts, () => {
      changeDirectory(root)
      remountHere(BigInt(`0x${flags}`), data === undefined ? null : bytesOf(data))
    })
  }

  /** Runs `action` in another mount namespace. Entering one changes the root and working directories, too. */
  #among(mounts: Fd, action: () => void): void {
    setns(mounts, CLONE_NEWNS)
    try {
      action()
    } finally {
      restoreOrDie(() => setns(this.#home.mounts, CLONE_NEWNS))
    }
  }

  /**
   * Runs `action` in the caller's cgroups: device rules bind it, and its memory is charged to them. That goes for our
   * credentials too, which files keep that are opened with them; so they are made anew there.
   */
  #inGroups<T>(task: Fd, kind: MounterRequest['do'], action: () => T): T {
    this.#caps.enter('join')
    return insideCgroupsOf(readTask(task, 'cgroup'), OPENS.has(kind) ? 'devicesAndMemory' : 'memory', () => {
      this.#caps.enter(kind)
      try {
        return action()
      } finally {
        this.#caps.enter('join')
      }
    })
  }

  #rootFor({ text = '', kind }: Source): SourceChroot {
    return new SourceChroot(this.#home.root, Buffer.from(text, 'latin1'), kind)
  }
}

/**
 * Inserts an open descriptor of the root directory after the mount: the kernel refuses to pass O_PATH descriptors by
 * ADDFD. The image may say that nobody may open it.
 */
function withRoot([made, free]: readonly [Fd, Fd?]): readonly Fd[] {
  return orClose([made, ...maybe(free)], () => {
    const root = openat(made.raw, DOT, O_RDONLY | O_DIRECTORY)
    return free ? [made, root, free] : [made, root]
  })
}

/**
 * Sets a parameter. An error is ignored: the caller's own context has already reported it, and the kernel went on
 * without it.
 */
function tell(context: Handle, [key, value]: Parameter): void {
  ignoring('any', () => fsconfigSet(context, bytesOf(key), value === undefined ? null : bytesOf(value)))
}

function reconfigure({ parameters }: Asked<'reconfigure'>, context: Handle): void {
  for (const parameter of parameters) tell(context, parameter)
  fsconfigReconfigure(context)
}

const CONTEXT = 'anon_inode:[fscontext]'
/** The kernel keeps so many messages of a context. */
const MESSAGES = 8
const message = Buffer.alloc(1024)

/**
 * Copies a descriptor of a context in which a bpffs is described. The type of a context never changes, but only the
 * kernel's message about an invalid option tells it; nobody else can write such a message.
 *
 * The caller's group, which the root directory has anyway, must be mapped in the user namespace of the context: tokens
 * for a user of the host, or for a container with other ids, would be under no filter of ours.
 *
 * @throws {SyscallError} if it is another file
 * @see linux/fs/fs_context.c logfc(), linux/kernel/bpf/inode.c bpf_parse_param()
 */
function adopt(caller: Handle, { fd, gid }: Asked<'adopt'>): Fd {
  const opened = pidfdGetfd(caller, fd)
  return orClose([opened], () => {
    using link = openat(AT_FDCWD, linkOf(opened), O_PATH | O_NOFOLLOW)
    if (Buffer.from(readlink(link)).toString('latin1') !== CONTEXT) throw new SyscallError('adopt', errno('EBADF'))
    // Once the kernel has made or refused to make the file system, it says EBUSY.
    ignoring(['EINVAL'], () => fsconfigSet(opened, cstring('delegate_cmds'), null))
    for (let count = 0; count < MESSAGES; count++) {
      const text = message.toString('latin1', 0, read(opened, message))
      if (!text.startsWith("e bpf: Bad value for 'delegate_cmds'")) continue
      fsconfigSet(opened, cstring('gid'), cstring(String(gid)))
      return opened
    }
    throw new SyscallError('adopt', errno('EINVAL'))
  })
}

function makeBpffs({ parameters }: Asked<'createBpffs'>, context: Handle): void {
  for (const [key, value] of parameters) fsconfigSet(context, bytesOf(key), bytesOf(value!))
  fsconfigCreate(context)
}

function shiftTo(tree: Handle, userns: Handle): void {
  try {
    mountSetattr(tree, { userns })
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    throw new MountRefused('shift', error.errno)
  }
}

function readTask(task: Handle, name: string): string {
  using file = openat(task.raw, cstring(name), O_RDONLY)
  const bytes = Buffer.alloc(CGROUP_LIMIT)
  return bytes.toString('latin1', 0, read(file, bytes))
}
