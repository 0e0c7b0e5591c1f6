/** By its code: what a reason says and, where something can be done, what that is. `{a}` and `{b}` are numbers, `{a:cap}` a capability. */
export type Sentences = Readonly<Record<string, readonly [says: string, remedy: string]>>
