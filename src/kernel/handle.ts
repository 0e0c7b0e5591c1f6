/** An owned descriptor: held by `using`, passed on by name. */
export interface Handle extends Disposable {
  readonly raw: number
}
