const LABELS = 8
const OTHER = 'other'
const UNKNOWN = 'unknown'
const PLAIN = /^[A-Za-z0-9._-]{1,32}$/

/**
 * Turns names of runtimes into labels of metrics: the first few plain names get their own, all others share one label.
 */
export class FewLabels {
  readonly #known: Set<string>

  constructor(known: Iterable<string> = []) {
    this.#known = new Set(known)
  }

  /** @param name undefined, or null in JSON, if it is not known */
  labelOf(name: unknown): string {
    if (name === undefined || name === null) return UNKNOWN
    if (typeof name !== 'string' || !PLAIN.test(name)) return OTHER
    if (this.#known.size < LABELS) this.#known.add(name)
    return this.#known.has(name) ? name : OTHER
  }
}
