import { EXACT } from '../calls/rule.ts'
import { type Cube, everything, intersect, separate, type Term } from './cube.ts'
import type { OciArg, OciRule } from './oci.ts'

const bits = Array.from({ length: 64 }, (_, index) => 1n << BigInt(63 - index))

/** The values below `value` (`up` false) or above it: equal to it above a bit, and on the other side at that bit. */
const beyond = (arg: number, value: bigint, up: boolean): readonly Term[] =>
  bits
    .filter((bit) => ((value & bit) === 0n) === up)
    .map((bit) => {
      const above = EXACT ^ (bit - 1n) ^ bit
      return { arg, mask: above | bit, equals: (value & above) | (up ? bit : 0n) }
    })

const equal = (arg: number, equals: bigint): Term => ({ arg, mask: EXACT, equals })

/** Each comparison of libseccomp as disjoint terms. */
const operators: Record<string, (arg: number, value: bigint, two: bigint) => readonly Term[]> = {
  SCMP_CMP_EQ: (arg, value) => [equal(arg, value)],
  SCMP_CMP_NE: (arg, value) => [{ ...equal(arg, value), negated: true }],
  SCMP_CMP_LT: (arg, value) => beyond(arg, value, false),
  SCMP_CMP_LE: (arg, value) => [...beyond(arg, value, false), equal(arg, value)],
  SCMP_CMP_GT: (arg, value) => beyond(arg, value, true),
  SCMP_CMP_GE: (arg, value) => [...beyond(arg, value, true), equal(arg, value)],
  SCMP_CMP_MASKED_EQ: (arg, mask, equals) => [{ arg, mask, equals: equals & mask }],
}

/** @throws {RangeError} for what a JavaScript number may have rounded */
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
 * The registers that a rule holds for. Runtimes join the conditions of one rule by *and*, unless one argument occurs
 * twice: then, as in the first version of runc, by *or* (runc libcontainer/seccomp matchCall(), crun likewise).
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

/** A cube as the `args` of one rule; none for all registers. */
export const toArgs = (cube: Cube): Pick<OciRule, 'args'> => (cube.length > 0 ? { args: cube.map(toArg) } : {})
