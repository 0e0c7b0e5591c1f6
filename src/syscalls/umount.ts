import type { PathBytes } from '../abi/brand.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { MNT_FORCE, UMOUNT_NOFOLLOW } from '../abi/mount.ts'
import type { Condition } from '../calls/rule.ts'
import type { Syscall } from '../calls/syscall.ts'
import { continueWith } from '../calls/verdict.ts'
import { isInside } from './mount-types.ts'

const FLAGS = 1
const isForced: Condition = { arg: FLAGS, mask: BigInt(MNT_FORCE), equals: BigInt(MNT_FORCE) }

/** umount2(2): is left to the kernel. Only `umount -f` is trapped, to say why it fails. */
export const umount: Syscall<{ readonly path: PathBytes; readonly follow: boolean }> = {
  name: 'umount2',
  key: 'mount',
  when: [[isForced]],
  tells: true,
  trapped: 'MNT_FORCE is set; only to explain the failure',
  screen: (_args, policy) => (policy.mount ? undefined : continueWith('keyOff')),
  decode: (args, caller) => ({
    path: caller.path(args.pointer(0)),
    follow: (args.uint(FLAGS) & UMOUNT_NOFOLLOW) === 0,
  }),
  decide: ({ path, follow }, caller) =>
    continueWith(isInside(caller.object(AT_FDCWD, path, follow), caller) ? 'kernelMountsIt' : 'forcesUnmount'),
}
