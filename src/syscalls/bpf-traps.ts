import { BPF } from '../abi/bpf-attr.ts'
import type { Traps } from '../calls/rule.ts'

/** `cmd` is an int, so the kernel ignores the upper 32 bits of its register. */
const COMMAND = { arg: 0, mask: 0xffff_ffffn }

/** bpf(2): traps the commands that are served, if both keys are on. */
export const bpfTraps: Traps = ({ bpf }) =>
  bpf?.devices
    ? Object.values(BPF).map((command) => ({ name: 'bpf', when: [{ ...COMMAND, equals: BigInt(command) }] }))
    : []
