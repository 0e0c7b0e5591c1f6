/** A descriptor. Whoever opened it closes it, by `using`, unless it is passed on by name to a new owner. */
export interface Handle extends Disposable {
  readonly raw: number
}
