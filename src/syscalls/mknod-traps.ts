import { S_IFBLK, S_IFCHR, S_IFMT } from '../abi/stat.ts'
import type { Condition, Traps } from '../calls/rule.ts'

/**
 * Character and block devices, which differ in one bit: a block device is never made, but the container's owner is told
 * why. Every other type is left to the kernel untrapped. mode_t is the low half of the register, so is the mask.
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
