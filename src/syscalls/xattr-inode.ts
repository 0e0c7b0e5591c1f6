import type { PathBytes } from '../abi/brand.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import type { Caller, MemoryReader, Registers } from '../calls/caller.ts'
import { ContinueError } from '../calls/verdict.ts'
import type { Handle } from '../kernel/handle.ts'

/** How a call names an inode: by a path, or by a descriptor alone. */
export type Inode =
  | { readonly dirfd: number; readonly path: PathBytes; readonly follow: boolean }
  | { readonly fd: number }

/** One of the four forms of a call, which differ in how they name the inode. */
export interface Shape {
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

export const shapes: readonly Shape[] = [byPath('', true), byPath('l', false), byDescriptor, at]

/** Opens a handle of the inode with the caller's rights. */
export const openInode = (inode: Inode, caller: Caller): Handle =>
  'fd' in inode ? caller.descriptor(inode.fd) : caller.object(inode.dirfd, inode.path, inode.follow)
