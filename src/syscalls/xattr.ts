import type { PathBytes } from '../abi/brand.ts'
import { capNumber } from '../abi/credentials.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import {
  decodeXattrArgs,
  XATTR_ARGS_LIMIT,
  XATTR_ARGS_SIZE,
  XATTR_CREATE,
  XATTR_NAME_MAX,
  XATTR_REPLACE,
  XATTR_SIZE_MAX,
  type XattrArgs,
} from '../abi/xattr.ts'
import type { Act } from '../calls/act.ts'
import type { Caller, MemoryReader, Registers } from '../calls/caller.ts'
import { type AttributeDeed, packAttribute } from '../calls/packed.ts'
import { EXACT, type Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { hasXattrat } from '../kernel/xattr.ts'
import { allowedBy, isNeverServed } from '../policy/attributes.ts'
import type { Policy } from '../policy/policy.ts'
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

/** The attributes that a policy allows beside OPAQUE. */
type Allowed = ReadonlySet<string>
const NONE: Allowed = new Set()

/** An operation on an attribute, for which there are four calls. */
interface Operation {
  readonly name: 'setxattr' | 'getxattr' | 'listxattr' | 'removexattr'
  /**
   * Reads the registers after those that name the inode.
   *
   * @returns for any attribute that is not served the verdict: an exception would cost more than the whole call
   */
  deed(args: Registers, memory: MemoryReader, shape: Shape, allowed: Allowed): MakeAct | Verdict
}

/** How names begin that the kernel serves for the owner of a file in any user namespace; not longer than OPAQUE. */
const OF_ALL = ['user.', 'system.posix_acl_', 'security.capability'].map((prefix) => Buffer.from(prefix))
/** Those that it lets anybody read who may look up the file, such as security.selinux and security.ima. */
const READ_BY_ALL = [...OF_ALL, Buffer.from('security.')]

/** How those begin that a policy can list. */
const LISTABLE = ['security.', 'trusted.'].map((prefix) => Buffer.from(prefix))

const OTHER = continueWith('otherAttribute')
const OF_ALL_USERS = continueWith('attributeOfAll')

/**
 * Returns the name of an attribute that is served, or the verdict for every other name.
 *
 * @param ofAll how names begin that the kernel serves
 * @throws {ContinueError} for a name that ends at an unreadable page
 */
function served(
  deed: AttributeDeed,
  at: bigint,
  memory: MemoryReader,
  allowed: Allowed,
  ofAll = OF_ALL,
): PathBytes | Verdict {
  const name = allowed.size === 0 ? memory.bytes(at, OPAQUE.length, true) : wholeName(at, memory)
  if (beginsWith(name, OPAQUE)) return OPAQUE
  for (const prefix of ofAll) if (beginsWith(name, prefix)) return OF_ALL_USERS
  if (!LISTABLE.some((prefix) => beginsWith(name, prefix))) return OTHER
  const text = Buffer.from(name).toString('latin1').replace(/\0.*$/s, '')
  if (isNeverServed(text)) return continueWith('attributeNeverServed', ...packAttribute(deed, text))
  if (allowedBy(allowed, text) !== undefined) return name as PathBytes
  return continueWith('attributeNotListed', ...packAttribute(deed, text))
}

/** Copies a name with its NUL. @throws {ContinueError} if it cannot be read, or is longer than the kernel accepts */
function wholeName(at: bigint, memory: MemoryReader): PathBytes {
  const text = memory.string(at, XATTR_NAME_MAX + 1)
  if (text === undefined) throw new ContinueError('unreadable')
  return Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes
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
  deed(args, memory, shape, allowed) {
    const { value, size, flags } = buffer(args, memory, shape)
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0 || size > XATTR_SIZE_MAX) return continueWith('invalidArgument')
    if (size !== YES.length && allowed.size === 0) return OTHER
    const name = served('set', args.pointer(shape.rest), memory, allowed)
    if ('is' in name) return name
    if (name === OPAQUE && size !== YES.length) return OTHER
    const bytes = memory.bytes(value, size)
    if (name === OPAQUE && bytes[0] !== YES[0]) return OTHER
    return (inode) => ({ verb: 'setxattr', inode, name, value: bytes, flags })
  },
}

const get: Operation = {
  name: 'getxattr',
  deed(args, memory, shape, allowed) {
    const name = served('get', args.pointer(shape.rest), memory, allowed, READ_BY_ALL)
    if ('is' in name) return name
    const { value: at, size, flags } = buffer(args, memory, shape)
    if (shape.suffix === 'at' && flags !== 0) return continueWith('invalidArgument')
    return (inode) => ({ verb: 'getxattr', inode, name, at, size })
  },
}

const list: Operation = {
  name: 'listxattr',
  deed(args, _, { rest }, allowed) {
    const [at, size] = [args.pointer(rest), sizeOf(args, rest + 1)]
    return (inode) => ({ verb: 'listxattr', inode, at, size, allowed })
  },
}

const remove: Operation = {
  name: 'removexattr',
  deed(args, memory, { rest }, allowed) {
    const name = served('remove', args.pointer(rest), memory, allowed)
    return 'is' in name ? name : (inode) => ({ verb: 'removexattr', inode, name })
  },
}

type Trapped = Pick<Syscall<Request>, 'key' | 'also' | 'when' | 'trapped'>

/**
 * Says what is trapped of a call on extended attributes, whose names are in memory where a filter cannot look. Of the
 * calls that set attributes only those with a value of one byte are trapped, as the "y" of trusted.overlay.opaque has,
 * unless the policy allows others; setxattrat(2) keeps the size in memory too, so it is always trapped. The calls that
 * read offer nothing to filter on, and `ls -l` makes one for each file, so they have a key of their own. Programs
 * seldom remove an attribute, so with others that is trapped by either key.
 */
function trappedOf(operation: Operation, { suffix }: Shape): Trapped {
  const also = { keys: ['setxattr.allowed'] } as const
  if (operation === remove) return { key: 'setxattr.read', also, trapped: IN_MEMORY }
  if (operation !== set) return { key: 'setxattr.read', trapped: IN_MEMORY }
  if (suffix === 'at') return { key: 'setxattr', also, trapped: 'all: even the size is in memory' }
  // `size` is a size_t, of which the kernel reads the whole register.
  return { key: 'setxattr', also, when: [[{ arg: 3, mask: EXACT, equals: 1n }]], trapped: 'the value has one byte' }
}
const IN_MEMORY = 'all: the name is in memory'

/** Tells whether a policy serves an operation at all. */
const isServed = (operation: Operation, { setxattr }: Policy): boolean =>
  setxattr !== undefined && (operation === set || setxattr.read || (operation === remove && setxattr.allowed.size > 0))

/** Makes the handler of one call: an operation on an inode that is named in one form. */
function handler(operation: Operation, shape: Shape): Syscall<Request> {
  const name = `${shape.prefix}${operation.name}${shape.suffix}`
  return {
    name,
    ...trappedOf(operation, shape),
    ...(shape.suffix === 'at' ? { isInKernel: hasXattrat } : {}),
    screen: (_, policy) => (isServed(operation, policy) ? undefined : continueWith('keyOff')),
    decode(args, memory, { setxattr }) {
      const deed = operation.deed(args, memory, shape, setxattr?.allowed ?? NONE)
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
 * The handlers for `trusted.overlay.opaque` and the attributes that a policy lists: setxattr(2) and its variants, and
 * by a key of their own the calls that read, list and remove them.
 */
export const xattrHandlers: readonly Syscall<Request>[] = [set, get, list, remove].flatMap((operation) =>
  shapes.map((shape) => handler(operation, shape)),
)
