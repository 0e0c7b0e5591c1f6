import type fc from 'fast-check'
import type { CallRecord } from '../../src/calls/record.ts'
import type { Difference } from './differences.ts'

/** What one call gave on one side: `ok` or the name of an errno, and a line for each thing that it may have changed. */
export interface Outcome {
  readonly result: string
  readonly effect: readonly string[]
}

/** One case on all sides. */
export interface Trial<C> {
  readonly case: C
  readonly ours: Outcome
  /** What native calls gave, by the name of who made them; each says the same as all others, if it is there. */
  readonly natives: Readonly<Record<string, Outcome>>
}

/** All sides of the comparison, with an engine for the one of them. */
export interface Sides<C> {
  /** @returns undefined if the caller cannot even take its place, which all sides must agree on */
  run(one: C): Promise<Trial<C> | undefined>
  /** What the engine noted about the last call. */
  record(): Promise<CallRecord | undefined>
  close(): Promise<void>
}

/** Everything that is special about one call, or one family of calls. */
export interface Subject<C> {
  readonly name: string
  readonly cases: fc.Arbitrary<C>
  start(): Promise<Sides<C>>
  /** The native whose results are counted beside ours. */
  readonly counted: string
  /** The words of a line of an effect, to name what differs. */
  readonly fields: readonly string[]
  /** Results that must occur at least 20 times, here and natively, in as many cases as are usual: else little was compared. */
  readonly results: readonly string[]
  readonly differences: readonly Difference<C>[]
  /** What a case is counted under. */
  features(one: C): readonly string[]
  /** A case in a few lines for a reader. */
  describe(one: C): readonly string[]
}
