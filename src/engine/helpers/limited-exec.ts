import type { Cap } from '../../abi/capability.ts'

/** The program that executes another program with limited capabilities. */
export const LIMITER = 'setpriv'

/**
 * Returns the words to put before a command so that its threads and the programs that it executes cannot have more
 * capabilities than `caps`. A process cannot do this to itself: capset(2) changes the calling thread only, and Node's
 * other threads run before our first statement.
 *
 * @param more further options of setpriv(1)
 */
export const limitedTo = (caps: readonly Cap[], more: readonly string[] = []): readonly [string, ...string[]] => [
  LIMITER,
  '--no-new-privs',
  '--inh-caps=-all',
  '--ambient-caps=-all',
  `--bounding-set=${['-all', ...caps.map((cap) => `+${cap.toLowerCase()}`)].join(',')}`,
  ...more,
  '--',
]
