/**
 * Maps codes to the sentence of a reason, and its remedy if there is one. `{a}` and `{b}` are replaced by the reason's
 * numbers, `{a:cap}` by the name of capability a, `{a:name}` by the name that both numbers hold (short-name.ts),
 * `{a:program}` by the FUSE program that is number a of the policy.
 */
export type Sentences = Readonly<Record<string, readonly [says: string, remedy: string]>>
