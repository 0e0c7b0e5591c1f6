import { FSCONFIG } from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import type { Context, Parameter } from '../calls/context.ts'
import { BPFFS } from '../calls/mounts.ts'
import { act, continueWith, type Verdict } from '../calls/verdict.ts'
import { delegations } from '../policy/delegations.ts'
import type { KeyName } from '../policy/keys.ts'
import type { Policy } from '../policy/policy.ts'
import { kernelNumber } from './mount-options.ts'
import { judgeMounter } from './mount-types.ts'

const COMMAND = 1
export const delegatingKeys = delegations.map(({ option }): KeyName => `bpf.${option}`)
/** The calls of fsconfig(2) that BPF tokens need: setting a string, and making the file system. */
export const delegating = {
  keys: delegatingKeys,
  when: [FSCONFIG.SET_STRING, FSCONFIG.CMD_CREATE].map((command) => [
    { arg: COMMAND, mask: 0xffff_ffffn, equals: BigInt(command) },
  ]),
}

const ALL = (1n << 64n) - 1n

/** What an option of bpffs asks for: bits, by the index of the option in `delegations`. */
interface Asked {
  readonly index: number
  /** undefined if the kernel refuses the value. */
  readonly bits: bigint | undefined
}

/**
 * Reads an option as the kernel does: words separated by colons, each a name in any case, `any`, or a number, which
 * replaces what comes before it.
 *
 * @returns undefined for another option
 * @see linux/kernel/bpf/inode.c bpf_parse_param()
 */
export function askedBy([key, value]: Parameter): Asked | undefined {
  const index = delegations.findIndex(({ option }) => option === key)
  if (index < 0 || value === undefined) return undefined
  const { names } = delegations[index]!
  let bits: bigint | undefined = 0n
  for (const word of value.split(':')) {
    const bit = names.indexOf(word.toLowerCase())
    if (word === 'any') bits = ALL
    else if (bit >= 0) bits |= 1n << BigInt(bit)
    else bits = kernelNumber(word)
    if (bits === undefined || bits > ALL) return { index, bits: undefined }
  }
  return { index, bits }
}

const bitsOf = (bits: bigint): readonly number[] =>
  Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => ((bits >> BigInt(bit)) & 1n) === 1n)

/** @returns a verdict if the policy does not delegate all of it */
function judge({ index, bits = 0n }: Asked, bpf: Policy['bpf']): Verdict | undefined {
  const { names, listable, member } = delegations[index]!
  const asked = bitsOf(bits)
  const never = asked.find((bit) => !listable.has(names[bit] ?? ''))
  if (never !== undefined) return continueWith('neverDelegated', index, never)
  const missing = asked.find((bit) => !bpf?.[member].has(names[bit]!))
  return missing === undefined ? undefined : continueWith('notDelegated', index, missing)
}

const isOver = ({ made, hasFailed }: Context): boolean => made !== undefined || hasFailed

/**
 * Decides an option that delegates. The container's context gets it when the file system is made, since the policy may
 * be another one by then. Whatever is not delegated is left to the kernel, which says EPERM or EINVAL.
 *
 * @param context undefined for the first such option of a context
 */
export function delegate(
  { fd, asked, context }: { readonly fd: number; readonly asked: Asked; readonly context: Context | undefined },
  caller: Caller,
  { bpf }: Policy,
): Verdict {
  const { index, bits } = asked
  if (bits === undefined) return continueWith('invalidArgument')
  if (bits === 0n) return continueWith('changesMounts')
  const verdict = judge(asked, bpf) ?? judgeMounter(caller)
  if (verdict) return verdict
  if (context && isOver(context)) return continueWith('contextOver')
  if (context && (bits & ~recorded(context, index)) === 0n) return act({ verb: 'report', writes: [] })
  if (!context) caller.mounts.tidy()
  caller.mounts.namespace()
  const parameter: Parameter = [delegations[index]!.option, `0x${bits.toString(16)}`]
  return act({ verb: 'delegate', fd, parameter, ...(context ? { context } : {}) })
}

/** What was recorded of an option so far. */
function recorded({ parameters }: Context, index: number): bigint {
  return parameters.map(askedBy).reduce((all, asked) => (asked?.index === index ? all | (asked.bits ?? 0n) : all), 0n)
}

/** Decides fsconfig(2) with any other command or option in the container's own context of a bpffs. */
export function ofBpffs(context: Context, command: number, caller: Caller, { bpf }: Policy): Verdict {
  const isExclusive = command === FSCONFIG.CMD_CREATE_EXCL
  if (!isExclusive && command !== FSCONFIG.CMD_CREATE) return continueWith('kernelMountsIt')
  const barred = judgeMounter(caller)
  if (barred) return barred
  if (context.hasFailed) return continueWith('contextOver')
  if (context.made) return isExclusive ? continueWith('contextOver') : act({ verb: 'createBpffs', context })
  const asked = delegations.map((_, index) => ({ index, bits: recorded(context, index) }))
  const refused = isExclusive ? continueWith('kernelMountsIt') : asked.map((each) => judge(each, bpf)).find(Boolean)
  if (refused) {
    // The kernel refuses it, and the context is of no more use.
    context.fail()
    return refused
  }
  const parameters = asked
    .filter(({ bits }) => bits !== 0n)
    .map(({ index, bits }): Parameter => [delegations[index]!.option, `0x${bits.toString(16)}`])
  return act({ verb: 'createBpffs', context, parameters })
}

export const isBpffs = ({ type }: Context): boolean => type === BPFFS
