import { type Condition, EXACT } from '../calls/syscall.ts'
import type { OciArg, OciRule } from './oci.ts'

/**
 * A condition on one argument, of which sets of registers are built. libseccomp promises no order between overlapping
 * rules of different actions, so profiles must not have any: that takes exact intersection and difference of such
 * sets.
 */
type Term = Condition

/** The set of registers for which every term holds; it has at most one term per argument, as an OCI rule does. */
export type Cube = readonly Term[]

/** The set of all registers, which has no condition. */
export const everything: Cube = []

/**
 * Returns disjoint terms for the values that differ from `equals` within `mask`: equal above a bit, different at it.
 */
function differing({ arg, mask, equals }: Condition): readonly Term[] {
  const terms: Term[] = []
  let above = 0n
  for (let bit = 1n << 63n; bit > 0n; bit >>= 1n) {
    if (!(mask & bit)) continue
    terms.push({ arg, mask: above | bit, equals: (equals & above) | (bit & ~equals) })
    above |= bit
  }
  return terms
}

const plain = (term: Term): readonly Term[] => (term.negated ? differing(term) : [term])
const disjoint = (a: Condition, b: Condition): boolean => ((a.equals ^ b.equals) & a.mask & b.mask) !== 0n

/** Returns disjoint terms for the values of one argument that match both terms. */
function meet(a: Term, b: Term): readonly Term[] {
  if (a.negated && b.negated && a.equals === b.equals) return [a]
  if (b.negated && !a.negated && disjoint(a, b)) return [a]
  if (a.negated && !b.negated && disjoint(a, b)) return [b]
  return plain(a).flatMap((x) =>
    plain(b).flatMap((y) =>
      disjoint(x, y) ? [] : [{ arg: x.arg, mask: x.mask | y.mask, equals: x.equals | y.equals }],
    ),
  )
}

const limit = (cube: Cube, term: Term): readonly Cube[] => {
  const same = cube.find(({ arg }) => arg === term.arg)
  if (!same) return [[...cube, term].sort((a, b) => a.arg - b.arg)]
  return meet(same, term).map((both) => cube.map((other) => (other === same ? both : other)))
}

/** Returns the intersection of two cubes, as disjoint cubes. */
export const intersect = (a: Cube, b: Cube): readonly Cube[] =>
  b.reduce<readonly Cube[]>((cubes, term) => cubes.flatMap((cube) => limit(cube, term)), [a])

/** Returns the conditions of `taken` that `region` does not decide, bit by bit; undefined if the two do not overlap. */
function narrow(region: Cube, taken: readonly Condition[]): readonly Condition[] | undefined {
  if (intersect(region, taken).length === 0) return undefined
  const known = (arg: number) => region.find((term) => term.arg === arg && !term.negated)?.mask ?? 0n
  return taken.map((term) => ({ ...term, mask: term.mask & ~known(term.arg) })).filter(({ mask }) => mask !== 0n)
}

/**
 * Returns the bit that most of the sets compare, once clear and once set: deciding it first keeps the number of rules
 * small.
 */
function halves(sets: readonly (readonly Condition[])[]): readonly Term[] {
  const votes = new Map<string, { count: number; readonly term: Term }>()
  for (const { arg, mask } of sets.flat()) {
    for (let bit = 1n << 63n; bit > 0n; bit >>= 1n) {
      if (!(mask & bit)) continue
      const vote = votes.get(`${arg} ${bit}`) ?? { count: 0, term: { arg, mask: bit, equals: bit } }
      votes.set(`${arg} ${bit}`, { ...vote, count: vote.count + 1 })
    }
  }
  const { term } = [...votes.values()].reduce((best, vote) => (vote.count > best.count ? vote : best))
  return [term, { ...term, equals: 0n }]
}

/** Returns terms of which exactly one matches any registers. */
function split(region: Cube, sets: readonly (readonly Condition[])[]): readonly Term[] {
  const whole = sets[0]!.find(
    ({ arg, equals }) =>
      region.every((term) => term.arg !== arg) &&
      sets.every((set) => set.some((term) => term.arg === arg && term.mask === EXACT && term.equals === equals)),
  )
  return whole ? [{ ...whole, negated: true }, whole] : halves(sets)
}

/** Returns the paths of a decision tree that starts with `region` and ends outside of all sets. */
function outside(region: Cube, taken: readonly (readonly Condition[])[]): readonly Cube[] {
  const open = taken.map((set) => narrow(region, set)).filter((set) => set !== undefined)
  if (open.length === 0) return [region]
  if (open.some((set) => set.length === 0)) return []
  return split(region, open)
    .flatMap((term) => limit(region, term))
    .flatMap((part) => outside(part, taken))
}

/** Converts a cube to cubes without negated terms. */
const positive = (cube: Cube): readonly Cube[] =>
  cube.reduce<readonly Cube[]>((cubes, term) => cubes.flatMap((one) => plain(term).flatMap((t) => limit(one, t))), [[]])

/** Returns `region` without the registers that are `taken`, as disjoint cubes. */
export const without = (region: Cube, taken: readonly Cube[]): readonly Cube[] =>
  outside(region, taken.flatMap(positive))

/** Converts cubes to disjoint cubes; a cube keeps what no earlier cube contains. */
export const separate = (cubes: readonly Cube[]): readonly Cube[] =>
  cubes.flatMap((cube, index) => without(cube, cubes.slice(0, index)))

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
