import {
  BPF_F_ANY_ALIGNMENT,
  BPF_F_STRICT_ALIGNMENT,
  BPF_MAXINSNS,
  BPF_PROG_TYPE_CGROUP_DEVICE,
  BPF_PROG_TYPE_CGROUP_SKB,
  LOAD,
  refusedInstruction,
} from '../abi/bpf.ts'
import { PAGE } from '../abi/system.ts'
import type { MemoryReader } from '../calls/caller.ts'
import { act, ContinueError, continueWith } from '../calls/verdict.ts'
import { type Command, deny, MANAGE, type Text } from './bpf-command.ts'

/** Maximum length of a licence in bytes; the kernel cuts a longer one. */
const LICENCE_MAX = 127
const FLAGS = BPF_F_STRICT_ALIGNMENT | BPF_F_ANY_ALIGNMENT

/**
 * The program that Go's library loads for a cgroup's network, before it attaches any program, to see whether the
 * kernel supports attaching; runc gives up its device rules if this fails. It may be loaded but never attached: only
 * device programs are, and the pipe that stands for a program is useless elsewhere. systemd loads another program to
 * see whether it can filter the network, which is refused.
 *
 * @see github.com/cilium/ebpf link/syscalls.go haveProgAttach: r0 = 0; exit
 */
const PROBE = Uint8Array.from([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])

const typeOf = (view: DataView): number => view.getUint32(LOAD.type, true)
const countOf = (view: DataView): number => view.getUint32(LOAD.count, true)
const mayBeProbe = (view: DataView): boolean =>
  typeOf(view) === BPF_PROG_TYPE_CGROUP_SKB && 8 * countOf(view) === PROBE.length
const isServed = (view: DataView): boolean => typeOf(view) === BPF_PROG_TYPE_CGROUP_DEVICE || mayBeProbe(view)

/** BPF_PROG_LOAD of a device program, or of PROBE. */
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

/** Copies the instructions and licence of a device program; undefined for a program that will not be loaded. */
export function readProgram(view: DataView, memory: MemoryReader): Text | undefined {
  const count = countOf(view)
  if (!isServed(view) || count > BPF_MAXINSNS) return undefined
  return {
    instructions: readable(() => memory.bytes(view.getBigUint64(LOAD.instructions, true), 8 * count)),
    licence: readable(() => readString(memory, view.getBigUint64(LOAD.licence, true))),
  }
}

/** Returns undefined for unreadable memory, which the kernel reports only after it has checked other errors. */
function readable(read: () => Uint8Array): Uint8Array | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof ContinueError && error.why.code === 'unreadable') return undefined
    throw error
  }
}

/** Copies a string, page by page, since the string may end where readable memory does. */
function readString(memory: MemoryReader, at: bigint): Uint8Array {
  const first = memory.bytes(at, Math.min(LICENCE_MAX, PAGE - Number(at % BigInt(PAGE))))
  const end = first.indexOf(0)
  if (end >= 0) return first.subarray(0, end)
  if (first.length === LICENCE_MAX) return first
  const rest = memory.bytes(at + BigInt(first.length), LICENCE_MAX - first.length)
  const restEnd = rest.indexOf(0)
  return Buffer.concat([first, restEnd >= 0 ? rest.subarray(0, restEnd) : rest])
}

/** Copies the members that are no pointers. One that the kernel only writes must be 0 where it does not know it yet. */
function scalars(view: DataView): Uint8Array {
  const attr = new Uint8Array(view.buffer.slice(0, LOAD.logTrueSize + 4))
  attr.fill(0, LOAD.instructions, LOAD.logLevel)
  attr.fill(0, LOAD.log, LOAD.kernVersion)
  return attr
}
