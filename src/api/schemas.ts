import { CONTAINER_FIELDS, type Field, type FieldKind } from '../reader/container-fields.ts'

/** A schema of JSON, draft 2020-12, which OpenAPI 3.1 takes as it is. */
export type Schema = Readonly<Record<string, unknown>>

const text: Schema = { type: 'string' }
const escapedText = { type: 'string', description: 'all but the printable characters of ASCII as octal numbers' }
const count: Schema = { type: 'integer', minimum: 0 }
const number: Schema = { type: 'number' }
const verdict: Schema = { enum: ['done', 'left', 'error', 'gone'] }
const time: Schema = { type: 'string', format: 'date-time' }

export const listOf = (items: Schema): Schema => ({ type: 'array', items })
export const named = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

type Members = Readonly<Record<string, Schema>>

/** An object with exactly these members; the optional ones may be missing. */
const exactly = (members: Members, optional: Members = {}): Schema => ({
  type: 'object',
  properties: { ...members, ...optional },
  required: Object.keys(members),
  additionalProperties: false,
})

const refusal = {
  count,
  call: escapedText,
  verdict,
  reason: text,
  says: escapedText,
  remedy: escapedText,
  time,
}
/** What may not be known of a refusal. */
const unknown = { errno: text, pid: count, comm: escapedText, first: time, wants: exactly({ key: text, value: text }) }

/** What may not be known of a container. */
const names = { image: escapedText, namespace: escapedText, pod: escapedText, labels: { type: 'object' } }

const FIELDS: Readonly<Record<FieldKind, Schema>> = {
  count,
  microseconds: { type: ['number', 'null'], description: 'half of the calls took at most so many microseconds' },
  time,
  escaped: escapedText,
  state: { enum: ['served', 'observed', 'left', 'unserved', 'ended'] },
  texts: listOf(text),
  labels: { type: 'object', additionalProperties: escapedText },
  keys: {
    type: 'object',
    additionalProperties: exactly(
      { value: escapedText, origin: escapedText },
      { ceiling: escapedText, asked: escapedText, instead: exactly({ value: escapedText, origin: escapedText }) },
    ),
  },
  traps: { anyOf: [listOf(text), { const: 'unknown' }] },
  refusals: listOf(exactly(refusal, unknown)),
}

/** The fields of a container of which the API says something. */
const fields = Object.entries<Field>(CONTAINER_FIELDS).flatMap(([name, { is, ...field }]) =>
  is === undefined ? [] : [{ name, is, ...field }],
)
const inList = fields.filter(({ only }) => only !== 'detail')
const inDetail = fields.filter(({ only }) => only !== 'list')

/** What answers are made of, by name. */
export const schemas: Readonly<Record<string, Schema>> = {
  Container: exactly(
    Object.fromEntries(inList.filter(({ optional }) => !optional).map(({ name, is }) => [name, FIELDS[is]])),
    Object.fromEntries(inList.filter(({ optional }) => optional).map(({ name, is }) => [name, FIELDS[is]])),
  ),
  ContainerDetail: {
    type: 'object',
    properties: Object.fromEntries(inDetail.map(({ name, is, inDetail: said = is }) => [name, FIELDS[said]])),
    required: inDetail.flatMap(({ name, optional, inDetail: said }) => (optional || said ? [] : [name])),
  },
  Refusal: exactly({ container: escapedText, name: escapedText, ...refusal }, { ...unknown, ...names }),
  Event: exactly(
    { time, type: text, container: escapedText },
    {
      cursor: text,
      syscall: text,
      call: escapedText,
      verdict,
      errno: text,
      reason: text,
      says: escapedText,
      remedy: escapedText,
      pid: count,
      comm: escapedText,
      tid: count,
      microseconds: number,
      message: escapedText,
      who: { type: 'object' },
      name: escapedText,
      ...names,
    },
  ),
  Status: exactly(
    {
      version: text,
      keeper: count,
      engine: count,
      containers: count,
      listeners: count,
      inFlight: count,
      stuck: count,
    },
    { unserved: count },
  ),
  Reason: exactly({ code: text, says: text, remedy: text }),
  Error: exactly({ error: text }),
}
