import type { Cap } from '../../abi/capability.ts'

/** The program that limits another one. */
export const LIMITER = 'setpriv'

/**
 * Put before a program that shall have no more than these capabilities, in none of its threads, whatever it executes: a thread
 * cannot take them from others that run already, as those of Node do before our first statement.
 *
 * @param more words of setpriv(1)
 */
export const limitedTo = (caps: readonly Cap[], more: readonly string[] = []): readonly string[] => [
  LIMITER,
  '--no-new-privs',
  '--inh-caps=-all',
  '--ambient-caps=-all',
  `--bounding-set=${['-all', ...caps.map((cap) => `+${cap.toLowerCase()}`)].join(',')}`,
  ...more,
  '--',
]
