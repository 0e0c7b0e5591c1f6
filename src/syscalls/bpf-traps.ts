import type { Traps } from '../calls/rule.ts'

/** What container runtimes and systemd use for the device programs of a cgroup, include/uapi/linux/bpf.h enum bpf_cmd. */
const served = {
  BPF_PROG_LOAD: 5n,
  BPF_PROG_ATTACH: 8n,
  BPF_PROG_DETACH: 9n,
  BPF_PROG_GET_FD_BY_ID: 13n,
  BPF_OBJ_GET_INFO_BY_FD: 15n,
  BPF_PROG_QUERY: 16n,
  BPF_LINK_CREATE: 28n,
  BPF_LINK_UPDATE: 29n,
  BPF_LINK_DETACH: 34n,
} as const

/** `cmd` is an int: whatever stands above its 32 bits, the kernel does not see it. */
const COMMAND = { arg: 0, mask: 0xffff_ffffn }

/** bpf(2): the commands that are served, once both keys are on. */
export const bpfTraps: Traps = ({ bpf }) =>
  bpf?.devices ? Object.values(served).map((equals) => ({ name: 'bpf', when: [{ ...COMMAND, equals }] })) : []
