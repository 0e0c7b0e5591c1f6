import type { Dev, Mode, PathBytes } from '../abi/brand.ts'
import { capNumber } from '../abi/credentials.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { fileType, major, makedev, minor, S_IFBLK, S_IFCHR, S_IFMT } from '../abi/stat.ts'
import type { Registers } from '../calls/caller.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import { opensHost } from '../policy/devices.ts'

interface Request {
  readonly dirfd: number
  readonly path: PathBytes
  readonly mode: Mode
  readonly dev: Dev
}

const WHITEOUT = makedev(0, 0)

/**
 * Matches character and block devices, whose types differ in one bit. A block device is never made, but the
 * container's owner is told why. Every other type is left to the kernel untrapped. The mask covers only the low half
 * of the register (mode_t).
 */
const isDevice = (arg: number): readonly Condition[] => [
  { arg, mask: BigInt(S_IFMT & ~(S_IFCHR ^ S_IFBLK)), equals: BigInt(S_IFCHR & S_IFBLK) },
]

/** Makes the handler of mknod(2) or mknodat(2), which differ only in a leading directory descriptor. */
function family(name: 'mknod' | 'mknodat', path: 0 | 1): Syscall<Request> {
  const modeOf = (args: Registers): Mode => (args.uint(path + 1) & 0xffff) as Mode
  const devOf = (args: Registers): Dev => args.uint(path + 2) as Dev
  return {
    name,
    key: 'mknod',
    when: [isDevice(path + 1)],
    trapped: 'the type is a character device; or a block device, only to explain the refusal',
    screen(args, { mknod }) {
      const dev = devOf(args)
      if (fileType(modeOf(args)) !== S_IFCHR) return continueWith('notCharDevice')
      if (dev === WHITEOUT) return continueWith('kernelMakesWhiteouts')
      if (!mknod) return continueWith('keyOff')
      if (!mknod.devices.has(dev)) return continueWith('deviceNotAllowed', major(dev), minor(dev))
      return undefined
    },
    decode: (args, memory) => ({
      dirfd: path === 0 ? AT_FDCWD : args.int(0),
      path: memory.path(args.pointer(path)),
      mode: modeOf(args),
      dev: devOf(args),
    }),
    decide({ dirfd, path, mode, dev }, caller) {
      if (!caller.inInitialUserns) return continueWith('childUserns')
      if (!caller.holds('MKNOD')) return continueWith('lacksCapability', capNumber('MKNOD'))
      const rules = caller.deviceRules(dev)
      if (!rules.mknod) return continueWith('deviceCgroup', major(dev), minor(dev))
      const done = rules.open ? 'done' : 'doneButClosed'
      const { dir, name } = caller.parent(dirfd, path)
      const node = { dir, name, mode, dev }
      const barred = caller.devicesBarred(dir, name)
      if (opensHost.has(dev) && barred?.node !== 'none')
        return act({ verb: 'placeNode', ...node, why: 'opensHost' }, 'doneAndBarred')
      if (!barred) return act({ verb: 'mknod', ...node }, done)
      if (barred.node === 'none') return continueWith('containerSuperblock')
      if (barred.node === 'covered') return act({ verb: 'placeNode', ...node, why: barred.why }, done)
      return act({ verb: 'mknod', ...node }, done === 'done' ? 'doneOnNodev' : done)
    },
  }
}

/** mknod(2): makes character devices that are harmless in any container. */
export const mknod = family('mknod', 0)
/** mknodat(2): the same, relative to a directory. */
export const mknodat = family('mknodat', 1)
