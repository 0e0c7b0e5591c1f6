import { refusedInstruction } from '../abi/bpf.ts'
import {
  BPF_F_ANY_ALIGNMENT,
  BPF_F_STRICT_ALIGNMENT,
  BPF_MAXINSNS,
  BPF_PROG_TYPE_CGROUP_DEVICE,
  BPF_PROG_TYPE_CGROUP_SKB,
  LOAD,
} from '../abi/bpf-attr.ts'
import type { Caller } from '../calls/caller.ts'
import { act, ContinueError, continueWith } from '../calls/verdict.ts'
import { type Command, deny, MANAGE, type Text } from './bpf-command.ts'

/** Of a licence the kernel reads no more, and ends it there. */
const LICENCE_MAX = 127
const PAGE = 4096n
const FLAGS = BPF_F_STRICT_ALIGNMENT | BPF_F_ANY_ALIGNMENT

/**
 * Before it attaches anything Go's library tries whether the kernel can, by loading just this for the network of a cgroup;
 * runc gives its device rules up where that fails. It can be loaded, but never attached: only device programs are, and what
 * stands for the program is of no use elsewhere. systemd tries with another one whether it can rule the network, and cannot.
 *
 * @see github.com/cilium/ebpf link/syscalls.go haveProgAttach: r0 = 0; exit
 */
const PROBE = Uint8Array.from([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])

const typeOf = (view: DataView): number => view.getUint32(LOAD.type, true)
const countOf = (view: DataView): number => view.getUint32(LOAD.count, true)
const mayBeProbe = (view: DataView): boolean =>
  typeOf(view) === BPF_PROG_TYPE_CGROUP_SKB && 8 * countOf(view) === PROBE.length
const isServed = (view: DataView): boolean => typeOf(view) === BPF_PROG_TYPE_CGROUP_DEVICE || mayBeProbe(view)

/** BPF_PROG_LOAD of a device program. */
export const load: Command = {
  needs: MANAGE,
  foreign: (view) => (isServed(view) ? undefined : continueWith('bpfProgramType', typeOf(view))),
  decide({ at, size, view, text }) {
    const { instructions, licence } = text ?? {}
    if (mayBeProbe(view) && !instructions?.every((byte, index) => byte === PROBE[index]))
      return continueWith('bpfProgramType', typeOf(view))
    const [count, flags] = [countOf(view), view.getUint32(LOAD.flags, true)]
    if ((flags & ~FLAGS) !== 0) return deny('EINVAL', 'bpfFlags', flags)
    if (count > BPF_MAXINSNS) return deny('E2BIG', 'bpfTooLong', count)
    const refused = instructions ? refusedInstruction(instructions) : -1
    if (refused >= 0) return deny('EINVAL', 'bpfInstruction', refused, instructions![8 * refused])
    const log = view.getBigUint64(LOAD.log, true)
    return act({
      verb: 'loadProgram',
      load: { attr: scalars(view), instructions, licence },
      ...(log === 0n ? {} : { log: { at: log, size: view.getUint32(LOAD.logSize, true) } }),
      ...(size >= LOAD.logTrueSize + 4 ? { logSizeAt: at + BigInt(LOAD.logTrueSize) } : {}),
    })
  },
}

/** Copies what a device program consists of; of one that will not be loaded, nothing. */
export function readProgram(view: DataView, caller: Caller): Text | undefined {
  const count = countOf(view)
  if (!isServed(view) || count > BPF_MAXINSNS) return undefined
  return {
    instructions: readable(() => caller.bytes(view.getBigUint64(LOAD.instructions, true), 8 * count)),
    licence: readable(() => readString(caller, view.getBigUint64(LOAD.licence, true))),
  }
}

/** Unreadable memory is not the end: the kernel comes to it at its turn, after other errors. */
function readable(read: () => Uint8Array): Uint8Array | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof ContinueError && error.why.code === 'unreadable') return undefined
    throw error
  }
}

/** A string may end where the memory does. */
function readString(caller: Caller, at: bigint): Uint8Array {
  const first = caller.bytes(at, Math.min(LICENCE_MAX, Number(PAGE - (at & (PAGE - 1n)))))
  const end = first.indexOf(0)
  if (end >= 0) return first.subarray(0, end)
  if (first.length === LICENCE_MAX) return first
  const rest = caller.bytes(at + BigInt(first.length), LICENCE_MAX - first.length)
  const restEnd = rest.indexOf(0)
  return Buffer.concat([first, restEnd >= 0 ? rest.subarray(0, restEnd) : rest])
}

/** The members that are no pointers, and that the kernel does not write. */
function scalars(view: DataView): Uint8Array {
  const attr = new Uint8Array(view.buffer.slice(0, LOAD.logTrueSize + 4))
  attr.fill(0, LOAD.instructions, LOAD.logLevel)
  attr.fill(0, LOAD.log, LOAD.kernVersion)
  attr.fill(0, LOAD.logTrueSize)
  return attr
}
