/** A key that was set while the container ran: who set it, and when, in milliseconds since 1970. */
export interface SetKey {
  readonly key: string
  readonly value: string
  readonly by: string
  readonly time: number
}
