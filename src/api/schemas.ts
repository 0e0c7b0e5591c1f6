/** A schema of JSON, draft 2020-12, which OpenAPI 3.1 takes as it is. */
export type Schema = Readonly<Record<string, unknown>>

const text: Schema = { type: 'string' }
const escapedText = { type: 'string', description: 'all but the printable characters of ASCII as octal numbers' }
const count: Schema = { type: 'integer', minimum: 0 }
const number: Schema = { type: 'number' }
const verdict: Schema = { enum: ['done', 'left', 'error', 'gone'] }
const milliseconds: Schema = { type: 'number', description: 'milliseconds since 1970' }

export const listOf = (items: Schema): Schema => ({ type: 'array', items })
export const named = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

/** An object with exactly these members. @param optional those that may be missing */
const exactly = (properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})

const counted = {
  ...{ calls: count, done: count, left: count, errors: count, gone: count, inFlight: count, stuck: count, kept: count },
  p50: { type: ['number', 'null'], description: 'half of the calls took at most so many microseconds' },
}
const identity = {
  ...{ id: escapedText, serial: count, runtime: escapedText, name: escapedText, image: escapedText, pid: count },
  state: { enum: ['served', 'left', 'ended'] },
}
const refusal = {
  ...{ count, call: escapedText, verdict, errno: text, reason: text, says: escapedText, remedy: escapedText },
  ...{ pid: count, comm: escapedText, time: milliseconds },
}

/** What there may be none of. */
const UNKNOWN = ['errno', 'pid', 'comm']

/** What answers are made of, by name. */
export const schemas: Readonly<Record<string, Schema>> = {
  Container: exactly(
    {
      ...identity,
      ...{ keys: listOf(text), ...counted, lastRefusal: escapedText, lastRefusalTime: milliseconds },
    },
    ['p50', 'lastRefusal', 'lastRefusalTime'],
  ),
  ContainerDetail: {
    type: 'object',
    properties: {
      ...{ ...identity, ...counted, since: milliseconds, ended: milliseconds, bundle: escapedText, listeners: count },
      keys: { type: 'object', additionalProperties: exactly({ value: escapedText, origin: escapedText }) },
      refusals: listOf(exactly(refusal, UNKNOWN)),
      droppedRefusals: count,
      traps: { anyOf: [listOf(text), { const: 'unknown' }] },
    },
    required: [
      ...Object.keys(identity),
      'calls',
      'done',
      'left',
      'errors',
      'gone',
      'inFlight',
      'stuck',
      'kept',
      'refusals',
      'droppedRefusals',
    ],
  },
  Refusal: exactly({ container: escapedText, name: escapedText, ...refusal }, UNKNOWN),
  Event: exactly(
    {
      ...{ time: { type: 'string', format: 'date-time' }, type: text, container: escapedText, cursor: text },
      ...{ syscall: text, call: escapedText, verdict, errno: text, reason: text, says: escapedText },
      ...{ remedy: escapedText, pid: count, comm: escapedText, tid: count, microseconds: number, message: escapedText },
    },
    [
      'cursor',
      'syscall',
      'call',
      'verdict',
      'errno',
      'reason',
      'says',
      'remedy',
      'pid',
      'comm',
      'tid',
      'microseconds',
      'message',
    ],
  ),
  Status: exactly({
    ...{ version: text, keeper: count, engine: count, containers: count, listeners: count },
    ...{ inFlight: count, stuck: count },
  }),
  Reason: exactly({ code: text, says: text, remedy: text }),
  Error: exactly({ error: text }),
}
