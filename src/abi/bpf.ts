import type { Dev } from './brand.ts'
import { major, minor } from './stat.ts'

/** One instruction of eBPF: `struct bpf_insn`, linux/bpf.h. */
interface Instruction {
  readonly code: number
  readonly dst?: number
  readonly src?: number
  readonly off?: number
  readonly imm?: number
}

const LDX_W = 0x61
const JNE = 0x55
const JEQ = 0x15
const RSH = 0x77
const AND = 0x57
const MOV = 0xb7
const EXIT = 0x95

/** `struct bpf_cgroup_dev_ctx`: 0 u32 access << 16 | type, 4 u32 major, 8 u32 minor. */
const CTX = { access: 0, major: 4, minor: 8 } as const
/** BPF_DEVCG_ACC_READ and BPF_DEVCG_ACC_WRITE. */
const OPEN = 6

function encode(instructions: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * instructions.length))
  for (const [index, { code, dst = 0, src = 0, off = 0, imm = 0 }] of instructions.entries()) {
    view.setUint8(8 * index, code)
    view.setUint8(8 * index + 1, dst | (src << 4))
    view.setInt16(8 * index + 2, off, true)
    view.setInt32(8 * index + 4, imm, true)
  }
  return new Uint8Array(view.buffer)
}

/** Classes, the low three bits of a code; linux/bpf_common.h and bpf.h. */
const LD = 0x00
const LDX = 0x01
const ST = 0x02
const STX = 0x03
const JMP = 0x05
const JMP32 = 0x06
const CALL = 0x80
const MEM = 0x60
const MEMSX = 0x80
/** The two slots of a constant of 64 bits: only with source 0 is it a constant, else a map, BTF or a function. */
const LDDW = 0x18

/**
 * Finds the first instruction that no device program needs. A program without such instructions can only calculate,
 * jump, and read its context and its stack: no call, no map, no BTF, no atomic access. The verifier checks the rest.
 *
 * @returns the instruction's index, or -1
 */
export function refusedInstruction(instructions: Uint8Array): number {
  for (let at = 0; at + 8 <= instructions.length; at += 8)
    if (!isHarmless(instructions[at]!, instructions[at + 1]! >> 4)) return at / 8
  return -1
}

function isHarmless(code: number, source: number): boolean {
  const [kind, mode] = [code & 0x07, code & 0xe0]
  switch (kind) {
    case LD:
      // The second slot has code 0 and is nothing by itself.
      return (code === LDDW || code === 0) && source === 0
    case LDX:
      return mode === MEM || mode === MEMSX
    case ST:
    case STX:
      return mode === MEM
    case JMP:
    case JMP32:
      return (code & 0xf0) < 0xe0 && (code & 0xf0) !== CALL
    default:
      return true
  }
}

const EXIT_CALL = 0x90
/** The offset of JA is the immediate value with the class JMP32. */
const JA = 0x00

/**
 * Returns how many instructions the verifier walks at most, which walks every path: more than that only if there is a
 * jump backwards, for which this is infinite, as it is for a jump out of the program.
 *
 * @param instructions of which `refusedInstruction` refuses none
 */
export function verifierSteps(instructions: Uint8Array): number {
  const view = new DataView(instructions.buffer, instructions.byteOffset, instructions.length)
  const count = Math.trunc(instructions.length / 8)
  /** By instruction: the steps from there to all ends. */
  const steps = new Float64Array(count + 1)
  const at = (index: number, from: number): number => (index > from && index < count ? steps[index]! : Infinity)
  for (let index = count - 1; index >= 0; index--) {
    const code = view.getUint8(8 * index)
    const isJump = (code & 0x07) === JMP || (code & 0x07) === JMP32
    const kind = isJump ? code & 0xf0 : undefined
    const next = kind === JA || kind === EXIT_CALL ? 0 : at(index + 1, index)
    const jump = kind === undefined || kind === EXIT_CALL ? 0 : at(index + 1 + offsetOf(view, index, code), index)
    steps[index] = 1 + next + jump
  }
  return steps[0]!
}

const offsetOf = (view: DataView, index: number, code: number): number =>
  code === (JMP32 | JA) ? view.getInt32(8 * index + 4, true) : view.getInt16(8 * index + 2, true)

/** A program for a control group that lets one device be made but not opened, and says nothing about all others. */
export const barOpening = (dev: Dev): Uint8Array =>
  encode([
    { code: LDX_W, dst: 2, src: 1, off: CTX.major },
    { code: JNE, dst: 2, off: 8, imm: major(dev) },
    { code: LDX_W, dst: 2, src: 1, off: CTX.minor },
    { code: JNE, dst: 2, off: 6, imm: minor(dev) },
    { code: LDX_W, dst: 2, src: 1, off: CTX.access },
    { code: RSH, dst: 2, imm: 16 },
    { code: AND, dst: 2, imm: OPEN },
    { code: JEQ, dst: 2, off: 2, imm: 0 },
    { code: MOV, dst: 0, imm: 0 },
    { code: EXIT },
    { code: MOV, dst: 0, imm: 1 },
    { code: EXIT },
  ])

/** The commands of bpf(2) with which runtimes and systemd set a cgroup's device programs: linux/bpf.h enum bpf_cmd. */
export const BPF = {
  PROG_LOAD: 5,
  PROG_ATTACH: 8,
  PROG_DETACH: 9,
  PROG_GET_FD_BY_ID: 13,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_DETACH: 34,
} as const

/** No call of a container is served for it. */
export const BPF_LINK_GET_FD_BY_ID = 30
export const BPF_MAP_CREATE = 0
export const BPF_TOKEN_CREATE = 36

export const BPF_PROG_TYPE_CGROUP_SKB = 8
export const BPF_PROG_TYPE_CGROUP_DEVICE = 15
export const BPF_CGROUP_DEVICE = 6
export const BPF_LINK_TYPE_CGROUP = 3

export const BPF_F_ALLOW_OVERRIDE = 1
export const BPF_F_ALLOW_MULTI = 2
export const BPF_F_REPLACE = 4
export const BPF_F_QUERY_EFFECTIVE = 1
export const BPF_F_STRICT_ALIGNMENT = 1
export const BPF_F_ANY_ALIGNMENT = 2

/** Beyond this many instructions a program is too long for everybody without CAP_BPF. */
export const BPF_MAXINSNS = 4096
/** Programs of one type on one cgroup, kernel/bpf/cgroup.c. */
export const BPF_CGROUP_MAX_PROGS = 64
/** A longer `union bpf_attr` is E2BIG, kernel/bpf/syscall.c bpf_check_uarg_tail_zero(). */
export const ATTR_MAX = 4096

/**
 * Where the members of `union bpf_attr` are, for each command that is served; all are u32 but those in `wide`.
 *
 * @see linux/bpf.h union bpf_attr
 */
export const LOAD = {
  type: 0,
  count: 4,
  instructions: 8,
  licence: 16,
  logLevel: 24,
  logSize: 28,
  log: 32,
  kernVersion: 40,
  flags: 44,
  name: 48,
  expectedAttachType: 68,
  logTrueSize: 140,
} as const
export const ATTACH = { target: 0, program: 4, type: 8, flags: 12, replace: 16 } as const
export const QUERY = {
  target: 0,
  type: 4,
  queryFlags: 8,
  attachFlags: 12,
  ids: 16,
  count: 24,
  flagsOfEach: 32,
  revision: 56,
} as const
export const BY_ID = { id: 0 } as const
export const INFO = { object: 0, length: 4, info: 8 } as const
export const LINK = { program: 0, target: 4, type: 8, flags: 12 } as const
export const UPDATE = { link: 0, program: 4, flags: 8, old: 12 } as const

type Range = readonly [at: number, end: number]
/** What of a command's members is understood, and where the members end that the headers know (6.18). */
interface Layout {
  readonly understood: readonly Range[]
  readonly end: number
}

/**
 * The layouts of the argument, by command. A member that is not understood may name a descriptor, a BTF id or memory,
 * which the kernel would look up in the process that makes the call, and so in the engine.
 */
const layouts: Readonly<Record<number, Layout>> = {
  [BPF.PROG_LOAD]: {
    understood: [
      [0, 64],
      [LOAD.expectedAttachType, 72],
      [LOAD.logTrueSize, 144],
    ],
    end: 168,
  },
  [BPF.PROG_ATTACH]: { understood: [[0, 20]], end: 32 },
  [BPF.PROG_DETACH]: { understood: [[0, 12]], end: 32 },
  [BPF.PROG_QUERY]: {
    understood: [
      [0, 28],
      [QUERY.flagsOfEach, 40],
      [QUERY.revision, 64],
    ],
    end: 64,
  },
  [BPF.PROG_GET_FD_BY_ID]: { understood: [[0, 4]], end: 12 },
  [BPF.OBJ_GET_INFO_BY_FD]: { understood: [[0, 16]], end: 16 },
  [BPF.LINK_CREATE]: { understood: [[0, 16]], end: 64 },
  [BPF.LINK_UPDATE]: { understood: [[0, 16]], end: 16 },
  [BPF.LINK_DETACH]: { understood: [[0, 4]], end: 4 },
}

/**
 * The first byte that is not zero outside of what is understood.
 *
 * @returns undefined if there is none; `known` tells whether the headers have a member there
 */
export function strayByte(
  command: number,
  attr: Uint8Array,
): { readonly at: number; readonly known: boolean } | undefined {
  const { understood, end } = layouts[command]!
  const at = attr.findIndex(
    (byte, index) => byte !== 0 && !understood.some(([from, to]) => from <= index && index < to),
  )
  return at < 0 ? undefined : { at, known: at < end }
}

/** Members beyond the size that the caller gave are zero, as for the kernel. */
export function attrView(attr: Uint8Array): DataView {
  const view = new DataView(new ArrayBuffer(Math.max(attr.length, ATTR_KNOWN)))
  new Uint8Array(view.buffer).set(attr)
  return view
}
const ATTR_KNOWN = 168

/** `struct bpf_prog_info`: what says more of a program than its owner needs, or how much of it there would be. */
export const PROG_INFO = { id: 4, loadTime: 40 } as const
export const PROG_INFO_SIZE = 232
/** Lengths of what only CAP_BPF may read: jited and xlated code, addresses, debug information, tags. */
const INFO_LENGTHS = [16, 20, 104, 108, 144, 148, 168, 180] as const

/** What of a `struct bpf_prog_info` is for its owner: all but the code in the kernel's form and where it lies. */
export function forOwner(info: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(info)
  for (const at of INFO_LENGTHS) copy.fill(0, at, at + 4)
  return copy
}

/**
 * Offsets within `struct bpf_link_info` of a cgroup's link:
 *
 *   0 u32 type | 4 u32 id | 8 u32 program | 16 u64 cgroup | 24 u32 attach type
 */
export const LINK_INFO = { type: 0, id: 4, program: 8, cgroup: 16, attachType: 24 } as const
