import type { Dev, Mode, PathBytes } from '../abi/brand.ts'
import { capNumber } from '../abi/credentials.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { fileType, major, makedev, minor, S_IFBLK, S_IFCHR, S_IFMT } from '../abi/stat.ts'
import type { Caller, DeviceRules, Registers } from '../calls/caller.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import { GRANTED, opensHost } from '../policy/devices.ts'
import type { Policy } from '../policy/policy.ts'
import { givenHere } from '../policy/refused-devices.ts'

interface Request {
  readonly dirfd: number
  readonly path: PathBytes
  readonly mode: Mode
  readonly dev: Dev
}

const WHITEOUT = makedev(0, 0)

/**
 * Matches character and block devices, whose types differ in one bit. Of a block device that is not made, the
 * container's owner is told why. Every other type is left to the kernel untrapped. The mask covers only the low half
 * of the register (mode_t).
 */
const isDevice = (arg: number): readonly Condition[] => [
  { arg, mask: BigInt(S_IFMT & ~(S_IFCHR ^ S_IFBLK)), equals: BigInt(S_IFCHR & S_IFBLK) },
]

/** Tells whether the policy has a device by its number: of block devices, it has none. */
const isListed = (type: number, dev: Dev, { mknod }: Policy): boolean =>
  type === S_IFCHR && mknod?.devices.has(dev) === true

/**
 * Returns why a device that no list has is not made. The node adds a name and an owner, and no right, where the
 * device rules name the device: the kernel asks them at each open. Rules that allow what no driver can have name none,
 * whatever the container has below them.
 */
function notGranted(type: number, rules: DeviceRules, caller: Caller): ReasonCode | undefined {
  const why = rules.full ? 'everyDeviceGranted' : 'deviceNotGranted'
  if (rules.full && caller.deniesOtherDevices(type)) return undefined
  // The number of a block device cannot be listed.
  return type === S_IFCHR ? 'deviceNotAllowed' : why
}

/** Makes the handler of mknod(2) or mknodat(2), which differ only in a leading directory descriptor. */
function family(name: 'mknod' | 'mknodat', path: 0 | 1): Syscall<Request> {
  const modeOf = (args: Registers): Mode => (args.uint(path + 1) & 0xffff) as Mode
  const devOf = (args: Registers): Dev => args.uint(path + 2) as Dev
  return {
    name,
    key: 'mknod',
    when: [isDevice(path + 1)],
    trapped: 'the type is a character device; or a block device, without `granted` only to explain the refusal',
    screen(args, policy) {
      const [type, dev] = [fileType(modeOf(args)), devOf(args)]
      const isGranted = policy.mknod?.devices.has(GRANTED) === true
      if (type !== S_IFCHR && !(type === S_IFBLK && isGranted)) return continueWith('notCharDevice')
      if (type === S_IFCHR && dev === WHITEOUT) return continueWith('kernelMakesWhiteouts')
      // The kernel asks no rules for a node without a number: linux/device_cgroup.h devcgroup_inode_permission()
      if (dev === WHITEOUT) return continueWith('deviceNotGranted', 0, 0)
      if (!policy.mknod) return continueWith('keyOff')
      if (!isGranted && !isListed(type, dev, policy)) return continueWith('deviceNotAllowed', major(dev), minor(dev))
      return undefined
    },
    decode: (args, memory) => ({
      dirfd: path === 0 ? AT_FDCWD : args.int(0),
      path: memory.path(args.pointer(path)),
      mode: modeOf(args),
      dev: devOf(args),
    }),
    decide({ dirfd, path, mode, dev }, caller, policy) {
      if (!caller.inInitialUserns) return continueWith('childUserns')
      if (!caller.holds('MKNOD')) return continueWith('lacksCapability', capNumber('MKNOD'))
      const type = fileType(mode)
      const isOfList = isListed(type, dev, policy)
      // First, since it costs no look at the rules.
      if (!isOfList && type === S_IFCHR && givenHere(major(dev), minor(dev)) !== undefined)
        return continueWith('deviceNotAllowed', major(dev), minor(dev))
      const rules = caller.deviceRules(dev, type)
      if (!rules.mknod) return continueWith('deviceCgroup', major(dev), minor(dev))
      const barredBy = isOfList ? undefined : notGranted(type, rules, caller)
      if (barredBy) return continueWith(barredBy, major(dev), minor(dev))
      const done = isOfList ? (rules.open ? 'done' : 'doneButClosed') : 'doneAsGranted'
      const { dir, name } = caller.parent(dirfd, path)
      const node = { dir, name, mode, dev }
      const barred = caller.devicesBarred(dir, name)
      if (opensHost.has(dev) && barred?.node !== 'none')
        return act({ verb: 'placeNode', ...node, why: 'opensHost' }, 'doneAndBarred')
      if (!barred) return act({ verb: 'mknod', ...node }, done)
      if (barred.node === 'none') return continueWith('containerSuperblock')
      if (barred.node === 'covered') return act({ verb: 'placeNode', ...node, why: barred.why }, done)
      return act({ verb: 'mknod', ...node }, done === 'doneButClosed' ? done : 'doneOnNodev')
    },
  }
}

/** mknod(2): makes devices that are harmless in any container, or that the container may open anyway. */
export const mknod = family('mknod', 0)
/** mknodat(2): the same, relative to a directory. */
export const mknodat = family('mknodat', 1)
