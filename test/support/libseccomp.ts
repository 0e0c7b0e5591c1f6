// Compiles profiles by libseccomp and runs the BPF: for tests of filters, for any architecture.

import koffi from 'koffi'
import type { OciRule, OciSeccomp } from '../../src/filter/oci.ts'

/** What the runtimes themselves use: a profile becomes the program that the kernel would get, for any architecture. */
const library = ((): ReturnType<typeof koffi.load> | undefined => {
  try {
    return koffi.load('libseccomp.so.2')
  } catch {
    return undefined
  }
})()

/** Why nothing can be compiled here; undefined if it can. */
export const unable = library ? undefined : 'libseccomp.so.2 is not installed'

koffi.struct('scmp_arg_cmp', { arg: 'uint32', op: 'int', datumA: 'uint64', datumB: 'uint64' })
const bind = (prototype: string) => library?.func(prototype) ?? (() => 0)
const init = bind('void *seccomp_init(uint32 action)')
const release = bind('void seccomp_release(void *ctx)')
const archAdd = bind('int seccomp_arch_add(void *ctx, uint32 arch)')
const archRemove = bind('int seccomp_arch_remove(void *ctx, uint32 arch)')
const archNative = bind('uint32 seccomp_arch_native()')
const apiSet = bind('int seccomp_api_set(uint32 level)')
const resolveName = bind('int seccomp_syscall_resolve_name(str name)')
const resolveNameFor = bind('int seccomp_syscall_resolve_name_arch(uint32 arch, str name)')
const addRule = bind(
  'int seccomp_rule_add_array(void *ctx, uint32 action, int syscall, uint32 count, const scmp_arg_cmp *args)',
)
const exportBpf = bind('int seccomp_export_bpf_mem(void *ctx, _Out_ uint8 *buffer, _Inout_ size_t *length)')

/** AUDIT_ARCH_*, which libseccomp takes as its own numbers; x32 shares the one of x86_64. */
const architectures = {
  SCMP_ARCH_X86_64: 0xc000_003e,
  SCMP_ARCH_X86: 0x4000_0003,
  SCMP_ARCH_X32: 0x4000_003e,
  SCMP_ARCH_AARCH64: 0xc000_00b7,
  SCMP_ARCH_ARM: 0x4000_0028,
} as const
export type Architecture = keyof typeof architectures

const returns: Record<string, number> = {
  SCMP_ACT_ALLOW: 0x7fff_0000,
  SCMP_ACT_NOTIFY: 0x7fc0_0000,
  SCMP_ACT_KILL: 0,
  SCMP_ACT_ERRNO: 0x0005_0000,
}
const actionOf = (action: string, errno = 1): number =>
  action === 'SCMP_ACT_ERRNO' ? returns.SCMP_ACT_ERRNO! | errno : returns[action]!
export const NOTIFIED = returns.SCMP_ACT_NOTIFY!

const comparisons = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((name) => `SCMP_CMP_${name}`)
const NO_SUCH_CALL = -1

/** The number of a call; undefined where the architecture lacks it. */
export function numberOf(name: string, architecture: Architecture): number | undefined {
  const number = resolveNameFor(architectures[architecture], name) as number
  return number < 0 ? undefined : number
}

const check = (what: string, result: number): void => {
  if (result < 0) throw new Error(`Cannot ${what}: libseccomp says ${result}`)
}

/** As crun and runc do: conditions on one argument twice are rules of their own, the default is not repeated. */
function add(context: unknown, rule: OciRule, fallback: number): void {
  const action = actionOf(rule.action, rule.errnoRet)
  if (action === fallback) return
  const args = (rule.args ?? []).map(({ index, op, value, valueTwo = 0 }) => ({
    arg: index,
    op: comparisons.indexOf(op) + 1,
    datumA: BigInt(value),
    datumB: BigInt(valueTwo),
  }))
  const twice = new Set(args.map(({ arg }) => arg)).size < args.length
  const groups = twice ? args.map((arg) => [arg]) : [args]
  for (const name of rule.names) {
    const number = resolveName(name) as number
    if (number === NO_SUCH_CALL) continue
    for (const group of groups) check(`add ${name}`, addRule(context, action, number, group.length, group) as number)
  }
}

/** The program that the kernel would run: classic BPF, two words an instruction. */
export function compile(profile: OciSeccomp): Uint32Array {
  apiSet(7)
  const fallback = actionOf(profile.defaultAction, profile.defaultErrnoRet)
  const context = init(fallback)
  try {
    const wanted = (profile.architectures ?? []).map((name) => architectures[name as Architecture])
    for (const arch of wanted) if (arch !== archNative()) check('add an architecture', archAdd(context, arch) as number)
    if (!wanted.includes(archNative() as never)) check('remove mine', archRemove(context, archNative()) as number)
    for (const rule of profile.syscalls ?? []) add(context, rule, fallback)
    const buffer = new Uint8Array(1024 * 1024)
    const length = [buffer.length]
    check('export', exportBpf(context, buffer, length) as number)
    return new Uint32Array(buffer.buffer, 0, length[0]! / 4)
  } finally {
    release(context)
  }
}

/** `struct seccomp_data` as the kernel shows it to a filter, as words; 32-bit code has 32-bit registers. The next call reuses it. */
export function seccompData(nr: number, arch: Architecture, registers: readonly bigint[]): Uint32Array {
  words[0] = nr
  words[1] = arch === 'SCMP_ARCH_X32' ? architectures.SCMP_ARCH_X86_64 : architectures[arch]
  for (let index = 0; index < registers.length; index++) longs[2 + index] = registers[index]!
  return words
}
const longs = new BigUint64Array(8)
const words = new Uint32Array(longs.buffer)

/**
 * Runs a program of classic BPF as the kernel does.
 *
 * @returns the action with its data
 * @see linux/kernel/seccomp.c seccomp_check_filter(), include/uapi/linux/bpf_common.h
 */
export function execute(program: Uint32Array, data: Uint32Array): number {
  let accumulator = 0
  for (let pc = 0; ; pc++) {
    const instruction = program[2 * pc]!
    const k = program[2 * pc + 1]!
    let holds = false
    switch (instruction & 0xffff) {
      case 0x20: // ld [k]
        accumulator = data[k >>> 2]!
        continue
      case 0x60: // ld M[k]
        accumulator = scratch[k]!
        continue
      case 0x02: // st M[k]
        scratch[k] = accumulator
        continue
      case 0x54: // and
        accumulator = (accumulator & k) >>> 0
        continue
      case 0x05: // ja
        pc += k
        continue
      case 0x06: // ret
        return k
      case 0x15: // jeq
        holds = accumulator === k
        break
      case 0x25: // jgt
        holds = accumulator > k
        break
      case 0x35: // jge
        holds = accumulator >= k
        break
      case 0x45: // jset
        holds = (accumulator & k) !== 0
        break
      default:
        throw new Error(`unknown instruction ${(instruction & 0xffff).toString(16)} at ${pc}`)
    }
    pc += holds ? (instruction >>> 16) & 0xff : instruction >>> 24
  }
}
/** A filter cannot read what it has not written before. */
const scratch = new Uint32Array(16)
