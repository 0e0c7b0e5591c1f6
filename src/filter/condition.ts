import { EXACT } from '../calls/rule.ts'
import { type Cube, everything, intersect, separate, type Term } from './cube.ts'
import type { OciArg, OciRule } from './oci.ts'

const bits = Array.from({ length: 64 }, (_, index) => 1n << BigInt(63 - index))

/**
 * Returns terms for the values below `value` (`up` false) or above it: equal above some bit, and on the other side at
 * it.
 */
const beyond = (arg: number, value: bigint, up: boolean): readonly Term[] =>
  bits
    .filter((bit) => ((value & bit) === 0n) === up)
    .map((bit) => {
      const above = EXACT ^ (bit - 1n) ^ bit
      return { arg, mask: above | bit, equals: (value & above) | (up ? bit : 0n) }
    })

const equal = (arg: number, equals: bigint): Term => ({ arg, mask: EXACT, equals })

/** The comparisons of libseccomp as disjoint terms. */
const operators: Record<string, (arg: number, value: bigint, two: bigint) => readonly Term[]> = {
  SCMP_CMP_EQ: (arg, value) => [equal(arg, value)],
  SCMP_CMP_NE: (arg, value) => [{ ...equal(arg, value), negated: true }],
  SCMP_CMP_LT: (arg, value) => beyond(arg, value, false),
  SCMP_CMP_LE: (arg, value) => [...beyond(arg, value, false), equal(arg, value)],
  SCMP_CMP_GT: (arg, value) => beyond(arg, value, true),
  SCMP_CMP_GE: (arg, value) => [...beyond(arg, value, true), equal(arg, value)],
  SCMP_CMP_MASKED_EQ: (arg, mask, equals) => [{ arg, mask, equals: equals & mask }],
}

/** Converts to an unsigned 64-bit bigint. @throws {RangeError} for a JavaScript number that may have been rounded */
function exact(value: number | bigint): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError(`${value} is not exact`)
  return BigInt.asUintN(64, BigInt(value))
}

function terms({ index, op, value, valueTwo = 0 }: OciArg): readonly Term[] {
  const operator = operators[op]
  if (!operator) throw new RangeError(`unknown comparison ${JSON.stringify(op)}`)
  return operator(index, exact(value), exact(valueTwo))
}

/**
 * Returns the registers that a rule matches. Runtimes join the conditions of a rule by *and*, unless an argument
 * occurs twice: then, as the first version of runc did, by *or* (runc libcontainer/seccomp matchCall(), crun
 * likewise).
 *
 * @returns disjoint cubes
 */
export function toCubes({ args }: OciRule): readonly Cube[] {
  const list = args ?? []
  const twice = new Set(list.map(({ index }) => index)).size < list.length
  if (twice) return separate(list.flatMap((arg) => terms(arg).map((term) => [term])))
  return list.reduce<readonly Cube[]>(
    (cubes, arg) => cubes.flatMap((cube) => terms(arg).flatMap((term) => intersect(cube, [term]))),
    [everything],
  )
}

const number = (value: bigint): number | bigint => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value)

function toArg({ arg: index, mask, equals, negated }: Term): OciArg {
  if (negated) return { index, value: number(equals), op: 'SCMP_CMP_NE' }
  if (mask === EXACT) return { index, value: number(equals), op: 'SCMP_CMP_EQ' }
  return { index, value: number(mask), valueTwo: number(equals), op: 'SCMP_CMP_MASKED_EQ' }
}

/** Converts a cube to the `args` of one rule; a cube of all registers has none. */
export const toArgs = (cube: Cube): Pick<OciRule, 'args'> => (cube.length > 0 ? { args: cube.map(toArg) } : {})
