/** How many 32-bit words each member takes, in the order in which they lie. */
type Sizes = Readonly<Record<string, number>>

/** In words: what one thread writes all the time must not share a line of the cache with what the others read. */
export const CACHE_LINE = 16

/**
 * Lays out the members of a struct one after the other. The offsets are computed once, as a module is loaded: V8 folds
 * them into the code of a call as it folds numbers.
 *
 * @returns the offset of each member in 32-bit words, and how many words all of them take
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
