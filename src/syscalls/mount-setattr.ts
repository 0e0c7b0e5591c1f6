import type { PathBytes } from '../abi/brand.ts'
import { AT_EMPTY_PATH } from '../abi/fcntl.ts'
import {
  ACCESS_TIMES,
  type AttributeChange,
  decodeAttributes,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_SIZE,
} from '../abi/mount.ts'
import { PAGE } from '../abi/system.ts'
import { WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, ContinueError, continueWith, type Verdict } from '../calls/verdict.ts'
import { keepsOtherTimes, timesOf } from './mount-options.ts'
import { superblockRequest } from './mount-source.ts'
import { judgeKept, judgeMounter, mannerOf } from './mount-types.ts'

const DOT = Buffer.from('.\0') as Uint8Array as PathBytes

interface Request {
  readonly fd: number
  readonly path: string | undefined
  readonly attributes: Uint8Array
}

/** Of a mount that we did not make, or that stands. */
function ofOthers(caller: Caller, fd: number, change: AttributeChange): Verdict {
  if (((change.set | change.clear) & ACCESS_TIMES) === 0n) return continueWith('foreignMount')
  try {
    return timesOf(caller, caller.object(fd, DOT, true), change)
  } catch (error) {
    // It is a mount of a file, not of a directory.
    if (error instanceof ContinueError) return continueWith('foreignMount')
    throw error
  }
}

/** Matches mount_setattr(2) of the mount that a descriptor is open for. */
const isOfDescriptor: Condition = { arg: 2, mask: BigInt(AT_EMPTY_PATH), equals: BigInt(AT_EMPTY_PATH) }

/**
 * mount_setattr(2): changes the policy of access times of a detached mount. The lock that keeps nodev also keeps this
 * policy, and mount(8) asks for noatime only when it already has the mount. The kernel does all other changes for the
 * container.
 */
export const mountSetattr: Syscall<Request> = {
  name: 'mount_setattr',
  key: 'mount',
  when: [[isOfDescriptor]],
  trapped: 'its object is a descriptor (AT_EMPTY_PATH)',
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    const usual = args.uint(2) === AT_EMPTY_PATH && args.pointer(4) >= MOUNT_ATTR_SIZE && args.pointer(4) <= PAGE
    return usual ? undefined : continueWith('changesMounts')
  },
  decode(args, memory) {
    const attributes = memory.bytes(args.pointer(3), Number(args.pointer(4)))
    // Members of a later kernel, which refuses what it does not know: E2BIG.
    if (attributes.subarray(MOUNT_ATTR_SIZE).some((byte) => byte !== 0)) throw new ContinueError('changesMounts')
    const path = memory.string(args.pointer(1))
    return { fd: args.int(0), path, attributes: attributes.subarray(0, MOUNT_ATTR_SIZE) }
  },
  decide({ fd, path, attributes }, caller, { mount: rules }) {
    if (!rules) return continueWith('keyOff')
    const change = decodeAttributes(attributes)
    if (path !== '' || !change) return continueWith('changesMounts')
    const mount = caller.mounts.unplaced(fd)
    if (!mount?.unlockedCopy) return ofOthers(caller, fd, change)
    const now = caller.mounts.attributes(mount)
    const wanted = (now & ~change.clear) | change.set
    // The kernel refuses it: what is locked stays, and with it all else of the change.
    const losesNodev = (change.clear & ~change.set & MOUNT_ATTR_NODEV) !== 0n
    if (mount.manner.nodev && losesNodev) return continueWith('changesMounts')
    const isBegun = caller.noted === WAS_NOT
    if (!keepsOtherTimes(now, wanted) && !isBegun) return continueWith('changesMounts')
    const verdict = judgeMounter(caller) ?? judgeKept(mount, rules)
    if (verdict) return verdict
    caller.mounts.namespace()
    // Changing the mount uses up the copy that is not locked. If an engine ended in this call, it is unknown whether
    // it did, so the file system is made anew.
    const anew = isBegun ? { anew: superblockRequest(mount, false, caller) } : {}
    return act({
      verb: 'renewMount',
      ...{ mount, ...anew, attributes: wanted, manner: mannerOf(mount.type, rules), replaces: fd },
    })
  },
}
