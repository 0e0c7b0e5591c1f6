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

/** A program for a control group that lets one device be made but not opened, and says nothing about all others. */
export const barOpening = (major: number, minor: number): Uint8Array =>
  encode([
    { code: LDX_W, dst: 2, src: 1, off: CTX.major },
    { code: JNE, dst: 2, off: 8, imm: major },
    { code: LDX_W, dst: 2, src: 1, off: CTX.minor },
    { code: JNE, dst: 2, off: 6, imm: minor },
    { code: LDX_W, dst: 2, src: 1, off: CTX.access },
    { code: RSH, dst: 2, imm: 16 },
    { code: AND, dst: 2, imm: OPEN },
    { code: JEQ, dst: 2, off: 2, imm: 0 },
    { code: MOV, dst: 0, imm: 0 },
    { code: EXIT },
    { code: MOV, dst: 0, imm: 1 },
    { code: EXIT },
  ])
