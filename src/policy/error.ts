/** Where a text stood; for the command line and for annotations there is nothing to say. */
export interface Place {
  readonly file?: string
  readonly line?: number
  readonly column?: number
  /** What the line is of, if that is no file. */
  readonly of?: string
}

/** So many flaws of one text are told. */
const TOLD = 20

/** A policy or configuration that an administrator must correct: the message says where, what, and what is allowed. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  readonly flaw: string
  readonly place: Place

  /** @param what is inserted before the line, `hint` after it */
  constructor(what: string, place: Place = {}, hint = '') {
    const file = place.file === undefined ? '' : ` ${JSON.stringify(place.file)}`
    const line =
      place.line === undefined ? '' : ` at line ${place.line}${place.of === undefined ? '' : ` of ${place.of}`}`
    const column = place.column === undefined ? '' : `, column ${place.column}`
    const flaw = `${what}${line}${column}${hint}`
    super(`Cannot read policy${file}: ${flaw}`)
    this.flaw = flaw
    this.place = place
  }

  /** Makes one error of all that is wrong in a file. */
  static of(errors: readonly [PolicyError, ...PolicyError[]], file: string): PolicyError {
    const offset = ({ place: { line = 0, column = 0 } }: PolicyError): number => line * 1e6 + column
    const sorted = errors.toSorted((one, other) => offset(one) - offset(other))
    const flaws = [...new Set(sorted.map(({ flaw }) => flaw))]
    if (flaws.length === 1) return errors[0]
    const more = flaws.length > TOLD ? `; and ${flaws.length - TOLD} more` : ''
    return new PolicyError(`${flaws.length} errors: ${flaws.slice(0, TOLD).join('; also ')}${more}`, { file })
  }
}
