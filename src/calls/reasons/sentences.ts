/**
 * Maps codes to the sentence of a reason, and its remedy if there is one. `{a}` and `{b}` are replaced by the reason's
 * numbers, `{a:cap}` by the name of capability a.
 */
export type Sentences = Readonly<Record<string, readonly [says: string, remedy: string]>>
