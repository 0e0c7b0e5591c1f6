import { capNumber } from '../abi/capability.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import {
  decodeXattrArgs,
  XATTR_ARGS_LIMIT,
  XATTR_ARGS_SIZE,
  XATTR_CREATE,
  XATTR_REPLACE,
  type XattrArgs,
} from '../abi/xattr.ts'
import type { Act } from '../calls/act.ts'
import type { Caller, Registers } from '../calls/caller.ts'
import { EXACT } from '../calls/rule.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith } from '../calls/verdict.ts'
import type { Handle } from '../kernel/handle.ts'
import { hasXattrat } from '../kernel/xattr.ts'
import { OPAQUE, YES } from '../verbs/xattr.ts'
import { type Inode, openInode, type Shape, shapes } from './xattr-inode.ts'

/** Makes the act, once the inode is known. */
type MakeAct = (inode: Handle) => Act

interface Request {
  readonly inode: Inode
  readonly deed: MakeAct
}

/** An operation on an attribute, for which there are four calls. */
interface Operation {
  readonly name: 'setxattr' | 'getxattr' | 'listxattr' | 'removexattr'
  /**
   * Reads the registers after those that name the inode. @throws {ContinueError} for any attribute other than OPAQUE
   */
  deed(args: Registers, caller: Caller, shape: Shape): MakeAct
}

/** How names begin that the kernel serves for the owner of a file in any user namespace; not longer than OPAQUE. */
const OF_ALL = ['user.', 'system.posix_acl_', 'security.capability'].map((prefix) => Buffer.from(prefix))

/**
 * Requires the name OPAQUE. @throws {ContinueError} for every other name, also for a name that ends at an unreadable
 * page
 */
function mustBeOpaque(at: bigint, caller: Caller): void {
  const name = caller.bytes(at, OPAQUE.length)
  if (Buffer.compare(name, OPAQUE) === 0) return
  throw new ContinueError(isOfAll(name) ? 'attributeOfAll' : 'otherAttribute')
}

const isOfAll = (name: Uint8Array): boolean =>
  OF_ALL.some((prefix) => prefix.every((byte, index) => name[index] === byte))

/**
 * Copies the `struct xattr_args` of setxattrat(2) and getxattrat(2). A longer one, up to a page, may have zeros behind
 * it (lib/usercopy.c copy_struct_from_user()). @throws {ContinueError} for every other size or rest
 */
function argsAt(args: Registers, caller: Caller, rest: number): XattrArgs {
  const size = args.pointer(rest + 2)
  if (size < BigInt(XATTR_ARGS_SIZE) || size > BigInt(XATTR_ARGS_LIMIT)) throw new ContinueError('invalidArgument')
  const bytes = caller.bytes(args.pointer(rest + 1), Number(size))
  if (bytes.subarray(XATTR_ARGS_SIZE).some((byte) => byte !== 0)) throw new ContinueError('invalidArgument')
  return decodeXattrArgs(bytes)
}

/** Converts a size_t to a number, whose rounding does not matter: it happens far beyond the kernel's limits. */
const sizeOf = (args: Registers, index: number): number => Number(args.pointer(index))

const buffer = (args: Registers, caller: Caller, { suffix, rest }: Shape): XattrArgs =>
  suffix === 'at'
    ? argsAt(args, caller, rest)
    : { value: args.pointer(rest + 1), size: sizeOf(args, rest + 2), flags: args.int(rest + 3) }

const set: Operation = {
  name: 'setxattr',
  deed(args, caller, shape) {
    const { value, size, flags } = buffer(args, caller, shape)
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new ContinueError('invalidArgument')
    if (size !== YES.length) throw new ContinueError('otherAttribute')
    mustBeOpaque(args.pointer(shape.rest), caller)
    if (caller.bytes(value, 1)[0] !== YES[0]) throw new ContinueError('otherAttribute')
    return (inode) => ({ verb: 'setxattr', inode, flags })
  },
}

const get: Operation = {
  name: 'getxattr',
  deed(args, caller, shape) {
    mustBeOpaque(args.pointer(shape.rest), caller)
    const { value: at, size, flags } = buffer(args, caller, shape)
    if (shape.suffix === 'at' && flags !== 0) throw new ContinueError('invalidArgument')
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
  deed(args, caller, { rest }) {
    mustBeOpaque(args.pointer(rest), caller)
    return (inode) => ({ verb: 'removexattr', inode })
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
    screen(_, { setxattr }) {
      if (!setxattr || (reads && !setxattr.read)) return continueWith('keyOff')
      return shape.suffix === 'at' && !hasXattrat() ? continueWith('callUnknown') : undefined
    },
    decode: (args, caller) => ({ deed: operation.deed(args, caller, shape), inode: shape.inode(args, caller) }),
    decide({ inode: named, deed }, caller) {
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
