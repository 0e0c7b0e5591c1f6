import { CODES } from '../calls/record.ts'
import { COUNTS_LAYOUT } from './counts-layout.ts'
import { DIRECTORY_LAYOUT } from './directory.ts'
import { RECORDS_LAYOUT } from './records.ts'

/** The numbers of the layouts of the three memories, in the order of their descriptors, and what their reasons mean. */
const LAYOUTS = [RECORDS_LAYOUT, COUNTS_LAYOUT, DIRECTORY_LAYOUT, CODES >>> 0] as const
const MAGIC = 'intercede-feed'

/** The message with the descriptors: a word, and a number for each descriptor. */
export const feedAnswer = (): Uint8Array => Buffer.from(`${MAGIC} ${LAYOUTS.join(' ')}\n`)

/**
 * @throws {Error} if we cannot read the daemon's message
 */
export function requireLayouts(answer: string): void {
  const [magic, ...numbers] = answer.trim().split(' ')
  if (magic !== MAGIC)
    throw new Error('Cannot read the feed: no daemon of Intercede answers at this socket; name another path')
  if (numbers.join(' ') !== LAYOUTS.join(' '))
    throw new Error(
      `Cannot read the feed: the daemon has another version (layouts ${numbers.join('.')}, not ${LAYOUTS.join('.')}); use its own intercede`,
    )
}
