import type { PathBytes } from '../abi/brand.ts'
import { FSPICK_CLOEXEC, FSPICK_EMPTY_PATH, FSPICK_SYMLINK_NOFOLLOW, FSPICK_VALID } from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import type { Handle } from '../kernel/handle.ts'
import { isVerdict, toChange } from './remount.ts'

interface Request {
  readonly dirfd: number
  readonly path: string | undefined
  readonly flags: number
}

/**
 * fspick(2): gives the caller a context of a tmpfs that we made for its container, in which nothing is ever changed.
 * Its parameters are recorded, as those of fsopen(2). Any other file system is left to the kernel, which opens a
 * context, and says EPERM when something is to be changed by that.
 */
export const fspick: Syscall<Request> = {
  name: 'fspick',
  key: 'mount',
  trapped: 'all: its object is a path',
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    return (args.uint(2) & ~FSPICK_VALID) === 0 ? undefined : continueWith('changesMounts')
  },
  decode: (args, caller) => ({ dirfd: args.int(0), path: caller.string(args.pointer(1)), flags: args.uint(2) }),
  decide({ dirfd, path, flags }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    if (path === undefined || (path === '' && (flags & FSPICK_EMPTY_PATH) === 0)) return continueWith('changesMounts')
    caller.mounts.tidy()
    const found = toChange(caller, mount, () => rootOf(caller, dirfd, { path, flags }))
    if (isVerdict(found)) return found
    return act({ verb: 'pickContext', root: found.root, cloexec: (flags & FSPICK_CLOEXEC) !== 0 })
  },
}

function rootOf(
  caller: Caller,
  dirfd: number,
  { path, flags }: { readonly path: string; readonly flags: number },
): Handle {
  const bytes = Buffer.from(`${path || '.'}\0`, 'latin1') as Uint8Array as PathBytes
  return caller.object(dirfd, bytes, path === '' || (flags & FSPICK_SYMLINK_NOFOLLOW) === 0)
}
