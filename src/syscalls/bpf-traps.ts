import { BPF } from '../abi/bpf-attr.ts'
import type { Traps } from '../calls/rule.ts'

/** `cmd` is an int: whatever stands above its 32 bits, the kernel does not see it. */
const COMMAND = { arg: 0, mask: 0xffff_ffffn }

/** bpf(2): the commands that are served, once both keys are on. */
export const bpfTraps: Traps = ({ bpf }) =>
  bpf?.devices
    ? Object.values(BPF).map((command) => ({ name: 'bpf', when: [{ ...COMMAND, equals: BigInt(command) }] }))
    : []
