import type { PathBytes } from '../abi/brand.ts'
import {
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_LOOKUP,
  MOVE_MOUNT_T_EMPTY_PATH,
  MOVE_MOUNT_T_SYMLINKS,
} from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { judgeKept, judgeMounter } from './mount-types.ts'

interface Request {
  readonly from: number
  readonly fromPath: string | undefined
  readonly to: number
  readonly toPath: string | undefined
  readonly flags: bigint
}

/** Matches move_mount(2) of the mount that a descriptor is open for. */
const isFromDescriptor: Condition = { arg: 4, mask: MOVE_MOUNT_F_EMPTY_PATH, equals: MOVE_MOUNT_F_EMPTY_PATH }

/**
 * move_mount(2): attaches a mount that fsmount(2) gave to the container. The kernel could do it, but would not tell
 * us, and as long as we hold the mount nobody can unmount it.
 */
export const moveMount: Syscall<Request> = {
  name: 'move_mount',
  key: 'mount',
  when: [[isFromDescriptor]],
  trapped: 'its object is a descriptor (MOVE_MOUNT_F_EMPTY_PATH)',
  screen(args) {
    const flags = BigInt(args.uint(4))
    const usual = (flags & MOVE_MOUNT_F_EMPTY_PATH) !== 0n && (flags & ~MOVE_MOUNT_LOOKUP) === 0n
    return usual ? undefined : continueWith('changesMounts')
  },
  decode: (args, memory) => ({
    from: args.int(0),
    fromPath: memory.string(args.pointer(1)),
    to: args.int(2),
    toPath: memory.string(args.pointer(3)),
    flags: BigInt(args.uint(4)),
  }),
  decide({ from, fromPath, to, toPath, flags }, caller, { mount: rules, mode }) {
    // Since Linux 6.14 a null pointer means the descriptor itself, too.
    if (fromPath !== undefined && fromPath !== '') return continueWith('changesMounts')
    const mount = caller.mounts.unplaced(from)
    if (!mount && !rules) return continueWith('keyOff')
    // Where a signal may have cancelled the call after it was done, that is found out by the act.
    if (!mount && (mode === 'observe' || !caller.mayComeAgain)) return continueWith('foreignMount')
    const verdict = judgeMounter(caller) ?? (mount && judgeKept(mount, rules))
    if (verdict) return verdict
    const namespace = caller.mounts.namespace()
    const target = targetOf(caller, to, { path: toPath, flags })
    if (!target) return continueWith('pathNotResolved')
    const what = mount ? { mount, handle: mount.handle } : { handle: caller.object(from, DOT, true) }
    return act({ verb: 'placeMount', ...what, target, namespace })
  },
}

function targetOf(
  caller: Caller,
  dirfd: number,
  { path, flags }: { readonly path: string | undefined; readonly flags: bigint },
): Handle | undefined {
  if (path) {
    const bytes = Buffer.from(`${path}\0`, 'latin1') as Uint8Array as PathBytes
    return caller.object(dirfd, bytes, (flags & MOVE_MOUNT_T_SYMLINKS) !== 0n)
  }
  return (flags & MOVE_MOUNT_T_EMPTY_PATH) === 0n ? undefined : caller.object(dirfd, DOT, true)
}

const DOT = Buffer.from('.\0') as Uint8Array as PathBytes
