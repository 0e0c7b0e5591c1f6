/** Where a text stood; for the command line and for annotations there is nothing to say. */
export interface Place {
  readonly file?: string
  readonly line?: number
}

/** A policy or configuration that an administrator must correct: the message says where, what, and what is allowed. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'

  /** @param what is inserted before the line, `hint` after it */
  constructor(what: string, place: Place = {}, hint = '') {
    const file = place.file === undefined ? '' : ` ${JSON.stringify(place.file)}`
    const line = place.line === undefined ? '' : ` at line ${place.line}`
    super(`Cannot read policy${file}: ${what}${line}${hint}`)
  }
}
