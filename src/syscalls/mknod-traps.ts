import { S_IFCHR, S_IFMT } from '../abi/stat.ts'
import type { Policy } from '../calls/policy.ts'
import type { Condition, Rule } from '../calls/rule.ts'

/** Only character devices; every other type is left to the kernel. mode_t is the low half of the register, so is the mask. */
const isCharacterDevice = (arg: number): readonly Condition[] => [
  { arg, mask: BigInt(S_IFMT), equals: BigInt(S_IFCHR) },
]

export const mknodTraps = ({ mknod }: Policy): readonly Rule[] =>
  mknod
    ? [
        { name: 'mknod', when: isCharacterDevice(1) },
        { name: 'mknodat', when: isCharacterDevice(2) },
      ]
    : []
