import type { Dev } from './brand.ts'
import { major, minor } from './dev.ts'

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
