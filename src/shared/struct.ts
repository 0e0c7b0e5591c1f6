/** How many 32-bit words each member takes, in their order in memory. */
type Sizes = Readonly<Record<string, number>>

/** In words: data that one thread writes all the time must not share a cache line with data that others read. */
export const CACHE_LINE = 16

/**
 * Lays out the members of a struct one after the other. The offsets are computed once, as a module is loaded: V8 folds
 * them into the code of a call as it folds numbers.
 *
 * @returns the offset of each member in 32-bit words, and the total number of words
 */
export function struct<S extends Sizes>(
  sizes: S,
): readonly [at: { readonly [Member in keyof S]: number }, words: number] {
  let words = 0
  const at: Record<string, number> = {}
  for (const [member, size] of Object.entries(sizes)) {
    at[member] = words
    words += size
  }
  return [Object.freeze(at) as { readonly [Member in keyof S]: number }, words]
}
