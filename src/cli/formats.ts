import { DETAIL_FIELDS, LIST_FIELDS } from '../reader/container-fields.ts'

export type FormatWord = 'table' | 'json' | 'strace'

/** What the --format of a command may be: one of these words, or a template with these fields. */
export interface Format {
  readonly words: readonly FormatWord[]
  readonly fields: readonly string[]
}

/** How `test` prints its results. */
export const TEST_FORMATS = ['table', 'tap', 'junit', 'json'] as const
export const TOP_SORTS = ['rate', 'done', 'left', 'errors', 'p50', 'p99', 'inFlight', 'stuck'] as const

/** What names a container, where a row is about one. */
const NAMES = ['name', 'image', 'namespace', 'pod', 'labels'] as const

const words: readonly FormatWord[] = ['table', 'json']

/** The formats of the commands that take a template. */
export const FORMATS = {
  ps: { words, fields: LIST_FIELDS },
  inspect: { words, fields: DETAIL_FIELDS },
  events: {
    words: [...words, 'strace'],
    fields: [
      'cursor',
      'time',
      'type',
      'container',
      'syscall',
      'call',
      'verdict',
      'errno',
      'reason',
      'says',
      'remedy',
      'tid',
      'pid',
      'comm',
      'microseconds',
      'message',
      'count',
      'first',
      ...NAMES,
    ],
  },
  explain: {
    words,
    fields: [
      'container',
      ...NAMES,
      'ended',
      'count',
      'call',
      'pid',
      'comm',
      'verdict',
      'errno',
      'reason',
      'says',
      'remedy',
      'now',
      'set',
      'forGood',
      'allows',
      'time',
      'first',
      'note',
    ],
  },
  status: {
    words,
    fields: [
      ...['pid', 'version', 'since', 'reloaded', 'engine', 'engineSince', 'engines', 'nextEngine'],
      ...['served', 'observed', 'left', 'unserved', 'unknown', 'historySince', 'listeners'],
    ],
  },
  top: { words, fields: ['container', ...NAMES, 'syscall', ...TOP_SORTS] },
} as const satisfies Readonly<Record<string, Format>>

/** How many events are shown first of those that are there already, if nothing else is asked for. */
export const EVENTS_TAIL = 10
