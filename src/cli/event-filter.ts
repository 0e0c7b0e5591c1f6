import { errnos } from '../abi/errno.ts'
import { reasonCodes } from '../calls/reason.ts'
import { WORDS } from '../calls/record.ts'
import type { EventView } from '../reader/event-view.ts'
import { briefly } from '../shared/briefly.ts'
import { UsageError } from './usage.ts'

/** What a filter may ask for. */
const FIELDS = ['container', 'syscall', 'verdict', 'reason', 'errno', 'call', 'comm', 'pid', 'type'] as const
type Field = (typeof FIELDS)[number]
/** What the field of a call can be at all: a word that no event has is a slip. */
const VALUES: { readonly [Name in Field]?: readonly string[] } = {
  verdict: Object.values(WORDS),
  reason: reasonCodes,
  errno: Object.keys(errnos),
}
/** So many values are listed in a sentence. */
const FEW = 10
/** In characters: an expression that a person types. */
const PATTERN_LIMIT = 256

type EventFilter = (event: EventView) => boolean

/**
 * Reads filters such as `verdict=left`, `syscall!=mknod`, `reason~device`, several with a comma between them. An event
 * must match all of them.
 *
 * @throws {UsageError} that says what is wrong
 */
export function parseFilters(given: readonly string[]): EventFilter {
  const filters = given.flatMap((text) => text.split(',')).map(parseOne)
  return (event) => filters.every((matches) => matches(event))
}

function parseOne(text: string): EventFilter {
  const [, name, operator, value] = /^\s*([a-z]+)\s*(!=|=|~)\s*(.+?)\s*$/i.exec(text) ?? []
  const wrong = (why: string): UsageError =>
    new UsageError(
      `Cannot use --filter ${briefly(text)}: ${why}; it is FIELD=VALUE, FIELD!=VALUE or FIELD~EXPRESSION with a field of ${FIELDS.join(', ')}`,
    )
  if (name === undefined) throw wrong('it has no operator')
  if (!FIELDS.includes(name as Field)) throw wrong(`there is no field ${briefly(name)}`)
  const textOf = (event: EventView): string => String(event[name as Field] ?? '')
  if (operator === '~') {
    const expression = expressionOf(value!, wrong)
    return (event) => expression.test(textOf(event))
  }
  const flaw = slipIn(name as Field, value!)
  if (flaw !== undefined) throw wrong(flaw)
  const isSame = (event: EventView): boolean =>
    textOf(event) === value || (name === 'container' && textOf(event).startsWith(value!))
  return operator === '=' ? isSame : (event) => !isSame(event)
}

/** Says why no event has this value; undefined if one may. An errno without a name is "errno 57". */
function slipIn(name: Field, value: string): string | undefined {
  const values = VALUES[name]
  if (values === undefined || values.includes(value) || /^errno \d+$/.test(value)) return undefined
  const which = values.length > FEW ? 'there is none of that name' : `it may be ${values.join(', ')}`
  return `no ${name} is ${briefly(value)}: ${which}`
}

function expressionOf(text: string, wrong: (why: string) => UsageError): RegExp {
  if (text.length > PATTERN_LIMIT) throw wrong(`the expression has more than ${PATTERN_LIMIT} characters`)
  try {
    return new RegExp(text)
  } catch (error) {
    throw wrong((error as Error).message)
  }
}
