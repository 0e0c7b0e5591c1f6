import type { PathBytes } from '../abi/brand.ts'
import { capNumber } from '../abi/credentials.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import {
  decodeXattrArgs,
  XATTR_ARGS_LIMIT,
  XATTR_ARGS_SIZE,
  XATTR_CREATE,
  XATTR_REPLACE,
  type XattrArgs,
} from '../abi/xattr.ts'
import type { Act } from '../calls/act.ts'
import type { Caller, MemoryReader, Registers } from '../calls/caller.ts'
import { EXACT, type Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { hasXattrat } from '../kernel/xattr.ts'
import { OPAQUE, YES } from '../verbs/xattr.ts'

/** How a call names an inode: by a path, or by a descriptor alone. */
type Inode = { readonly dirfd: number; readonly path: PathBytes; readonly follow: boolean } | { readonly fd: number }

/** One of the four forms of a call, which differ in how they name the inode. */
interface Shape {
  readonly prefix: '' | 'l' | 'f'
  readonly suffix: '' | 'at'
  /** The index of the first register after those that name the inode. */
  readonly rest: number
  inode(args: Registers, memory: MemoryReader): Inode
}

const byPath = (prefix: '' | 'l', follow: boolean): Shape => ({
  prefix,
  suffix: '',
  rest: 1,
  inode: (args, memory) => ({ dirfd: AT_FDCWD, path: memory.path(args.pointer(0)), follow }),
})

const byDescriptor: Shape = { prefix: 'f', suffix: '', rest: 1, inode: (args) => ({ fd: args.int(0) }) }

/**
 * Reads the arguments of the *at form: with AT_EMPTY_PATH an empty path or a null pointer means the descriptor
 * itself.
 */
const at: Shape = {
  prefix: '',
  suffix: 'at',
  rest: 3,
  inode(args, memory) {
    const [dirfd, pointer, flags] = [args.int(0), args.pointer(1), args.uint(2)]
    if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) throw new ContinueError('invalidArgument')
    const mayBeEmpty = (flags & AT_EMPTY_PATH) !== 0
    if (mayBeEmpty && (pointer === 0n || memory.bytes(pointer, 1)[0] === 0)) return { fd: dirfd }
    return { dirfd, path: memory.path(pointer), follow: (flags & AT_SYMLINK_NOFOLLOW) === 0 }
  },
}

const shapes: readonly Shape[] = [byPath('', true), byPath('l', false), byDescriptor, at]

/** Opens a handle of the inode with the caller's rights. */
const openInode = (inode: Inode, caller: Caller): Handle =>
  'fd' in inode ? caller.descriptor(inode.fd) : caller.object(inode.dirfd, inode.path, inode.follow)

/** Makes the act, once the inode is known. */
type MakeAct = (inode: Handle) => Act

/** What a call asks; `left` says why the copy alone leaves it to the kernel. */
type Request = { readonly left: Verdict } | { readonly inode: Inode; readonly deed: MakeAct }

/** An operation on an attribute, for which there are four calls. */
interface Operation {
  readonly name: 'setxattr' | 'getxattr' | 'listxattr' | 'removexattr'
  /**
   * Reads the registers after those that name the inode.
   *
   * @returns for any attribute other than OPAQUE the verdict: an exception would cost more than the whole call
   */
  deed(args: Registers, memory: MemoryReader, shape: Shape): MakeAct | Verdict
}

/** How names begin that the kernel serves for the owner of a file in any user namespace; not longer than OPAQUE. */
const OF_ALL = ['user.', 'system.posix_acl_', 'security.capability'].map((prefix) => Buffer.from(prefix))
/** Those that it lets anybody read who may look up the file, such as security.selinux and security.ima. */
const READ_BY_ALL = [...OF_ALL, Buffer.from('security.')]

const OTHER = continueWith('otherAttribute')
const OF_ALL_USERS = continueWith('attributeOfAll')

/**
 * Returns the verdict for every name but OPAQUE.
 *
 * @param ofAll how names begin that the kernel serves
 * @throws {ContinueError} for a name that ends at an unreadable page
 */
function unlessOpaque(at: bigint, memory: MemoryReader, ofAll = OF_ALL): Verdict | undefined {
  const name = memory.bytes(at, OPAQUE.length, true)
  if (beginsWith(name, OPAQUE)) return undefined
  for (const prefix of ofAll) if (beginsWith(name, prefix)) return OF_ALL_USERS
  return OTHER
}

/** Compares in a loop, since for these few bytes Buffer.compare() takes as long as a system call. */
function beginsWith(name: Uint8Array, prefix: Uint8Array): boolean {
  for (let index = 0; index < prefix.length; index++) if (name[index] !== prefix[index]) return false
  return true
}

/**
 * Copies the `struct xattr_args` of setxattrat(2) and getxattrat(2). A longer one, up to a page, may have zeros behind
 * it (lib/usercopy.c copy_struct_from_user()). @throws {ContinueError} for every other size or rest
 */
function argsAt(args: Registers, memory: MemoryReader, rest: number): XattrArgs {
  const size = args.pointer(rest + 2)
  if (size < BigInt(XATTR_ARGS_SIZE) || size > BigInt(XATTR_ARGS_LIMIT)) throw new ContinueError('invalidArgument')
  const bytes = memory.bytes(args.pointer(rest + 1), Number(size))
  if (bytes.subarray(XATTR_ARGS_SIZE).some((byte) => byte !== 0)) throw new ContinueError('invalidArgument')
  return decodeXattrArgs(bytes)
}

/** Converts a size_t to a number, whose rounding does not matter: it happens far beyond the kernel's limits. */
const sizeOf = (args: Registers, index: number): number => Number(args.pointer(index))

const buffer = (args: Registers, memory: MemoryReader, { suffix, rest }: Shape): XattrArgs =>
  suffix === 'at'
    ? argsAt(args, memory, rest)
    : { value: args.pointer(rest + 1), size: sizeOf(args, rest + 2), flags: args.int(rest + 3) }

const set: Operation = {
  name: 'setxattr',
  deed(args, memory, shape) {
    const { value, size, flags } = buffer(args, memory, shape)
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) return continueWith('invalidArgument')
    if (size !== YES.length) return OTHER
    const left = unlessOpaque(args.pointer(shape.rest), memory)
    if (left) return left
    if (memory.bytes(value, 1)[0] !== YES[0]) return OTHER
    return (inode) => ({ verb: 'setxattr', inode, flags })
  },
}

const get: Operation = {
  name: 'getxattr',
  deed(args, memory, shape) {
    const left = unlessOpaque(args.pointer(shape.rest), memory, READ_BY_ALL)
    if (left) return left
    const { value: at, size, flags } = buffer(args, memory, shape)
    if (shape.suffix === 'at' && flags !== 0) return continueWith('invalidArgument')
    return (inode) => ({ verb: 'getxattr', inode, at, size })
  },
}

const list: Operation = {
  name: 'listxattr',
  deed(args, _, { rest }) {
    const [at, size] = [args.pointer(rest), sizeOf(args, rest + 1)]
    return (inode) => ({ verb: 'listxattr', inode, at, size })
  },
}

const remove: Operation = {
  name: 'removexattr',
  deed(args, memory, { rest }) {
    return unlessOpaque(args.pointer(rest), memory) ?? ((inode) => ({ verb: 'removexattr', inode }))
  },
}

type Trapped = Pick<Syscall<Request>, 'key' | 'when' | 'trapped'>

/**
 * Says what is trapped of a call on extended attributes, whose names are in memory where a filter cannot look. Of the
 * calls that set attributes only those with a value of one byte are trapped, as the "y" of trusted.overlay.opaque has;
 * setxattrat(2) keeps the size in memory too, so it is always trapped. The calls that read offer nothing to filter on,
 * and `ls -l` makes one for each file, so they have a key of their own.
 */
function trappedOf(operation: Operation, { suffix }: Shape): Trapped {
  if (operation !== set) return { key: 'setxattr.read', trapped: 'all: the name is in memory' }
  if (suffix === 'at') return { key: 'setxattr', trapped: 'all: even the size is in memory' }
  // `size` is a size_t, of which the kernel reads the whole register.
  return { key: 'setxattr', when: [[{ arg: 3, mask: EXACT, equals: 1n }]], trapped: 'the value has one byte' }
}

/** Makes the handler of one call: an operation on an inode that is named in one form. */
function handler(operation: Operation, shape: Shape): Syscall<Request> {
  const name = `${shape.prefix}${operation.name}${shape.suffix}`
  const reads = operation !== set
  return {
    name,
    ...trappedOf(operation, shape),
    ...(shape.suffix === 'at' ? { isInKernel: hasXattrat } : {}),
    screen(_, { setxattr }) {
      if (!setxattr || (reads && !setxattr.read)) return continueWith('keyOff')
      return undefined
    },
    decode(args, memory) {
      const deed = operation.deed(args, memory, shape)
      return typeof deed === 'function' ? { deed, inode: shape.inode(args, memory) } : { left: deed }
    },
    ...(operation === list ? {} : { screenCopy: (request) => ('left' in request ? request.left : undefined) }),
    decide(request, caller) {
      if ('left' in request) return request.left
      const { inode: named, deed } = request
      // The kernel (6.18) accepts AT_FDCWD without a path in all calls but this one: EBADF (fs/xattr.c
      // path_removexattrat()).
      if (operation === remove && 'fd' in named && named.fd === AT_FDCWD) return continueWith('invalidArgument')
      if (!caller.inInitialUserns) return continueWith('childUserns')
      if (!caller.holds('SYS_ADMIN')) return continueWith('lacksCapability', capNumber('SYS_ADMIN'))
      const inode = openInode(named, caller)
      return caller.commands(inode, 'SYS_ADMIN') ? act(deed(inode)) : continueWith('notOfContainer')
    },
  }
}

/**
 * The handlers for `trusted.overlay.opaque`: setxattr(2) and its variants, and by a key of their own the calls that
 * read, list and remove it.
 */
export const xattrHandlers: readonly Syscall<Request>[] = [set, get, list, remove].flatMap((operation) =>
  shapes.map((shape) => handler(operation, shape)),
)
