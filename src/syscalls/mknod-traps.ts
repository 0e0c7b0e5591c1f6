import { S_IFBLK, S_IFCHR, S_IFMT } from '../abi/stat.ts'
import type { Condition, Traps } from '../calls/rule.ts'

/**
 * Matches character and block devices, whose types differ in one bit. A block device is never made, but the
 * container's owner is told why. Every other type is left to the kernel untrapped. The mask covers only the low half
 * of the register (mode_t).
 */
const isDevice = (arg: number): readonly Condition[] => [
  { arg, mask: BigInt(S_IFMT & ~(S_IFCHR ^ S_IFBLK)), equals: BigInt(S_IFCHR & S_IFBLK) },
]

export const mknodTraps: Traps = ({ mknod }) =>
  mknod
    ? [
        { name: 'mknod', when: isDevice(1) },
        { name: 'mknodat', when: isDevice(2) },
      ]
    : []
