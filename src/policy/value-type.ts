/**
 * What a key can be set to. Settings are kept as canonical text, so a type of values compares and rewrites texts, and
 * only `parse` shows the TypeScript type: the table of keys can then hold all types of values without a cast.
 */
export interface ValueType<T> {
  /** What is allowed, as the end of the sentence "allowed is ...". */
  readonly allowed: string
  /** Whether a value has elements, which YAML may give as a list or a map. */
  readonly isList: boolean
  /** Values, or elements of a list, that a shell offers where one is to be typed: there may be others. */
  readonly offered: readonly string[]
  /** @throws {RangeError} with what is wrong, where that is more than "not allowed" */
  parse(text: string): T
  /** The one spelling of this value. */
  canonical(text: string): string
  /** The canonical text of the value that permits least. */
  readonly lowest: string
  /** Does the value `to` permit nothing that `from` does not? Both are canonical. */
  lowers(from: string, to: string): boolean
  /** The most that both values permit. Both are canonical. */
  meet(one: string, other: string): string
}

interface Definition<T> {
  readonly allowed: string
  readonly isList?: boolean
  readonly offered?: readonly string[]
  readonly parse: (text: string) => T
  readonly format: (value: T) => string
  readonly lowest: T
  readonly lowers: (from: T, to: T) => boolean
  readonly meet: (one: T, other: T) => T
}

export const valueType = <T>({
  allowed,
  isList = false,
  offered = [],
  parse,
  format,
  lowest,
  lowers,
  meet,
}: Definition<T>): ValueType<T> => ({
  allowed,
  isList,
  offered,
  parse,
  canonical: (text) => format(parse(text)),
  lowest: format(lowest),
  lowers: (from, to) => lowers(parse(from), parse(to)),
  meet: (one, other) => format(meet(parse(one), parse(other))),
})

/** The elements of a list: separated by commas, blanks around them do not count, an empty text is an empty list. */
export const elements = (text: string): readonly string[] =>
  text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')
