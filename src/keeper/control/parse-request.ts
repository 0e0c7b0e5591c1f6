import * as v from 'valibot'
import { CONTROL_VERSION, type ControlRequest } from './protocol.ts'

const text = v.pipe(v.string(), v.maxLength(4096))
const id = v.pipe(v.string(), v.minLength(1), v.maxLength(1024))
const KEYS = 64

const Request = v.variant('type', [
  v.strictObject({
    version: v.literal(CONTROL_VERSION),
    type: v.literal('set'),
    container: id,
    serial: v.pipe(v.number(), v.integer(), v.minValue(1)),
    set: v.pipe(v.record(text, text), v.maxEntries(KEYS)),
    unset: v.pipe(v.array(text), v.maxLength(KEYS)),
  }),
  v.strictObject({ version: v.literal(CONTROL_VERSION), type: v.literal('reload'), dry: v.boolean() }),
])

function json(bytes: string): unknown {
  try {
    return JSON.parse(bytes)
  } catch {
    return undefined
  }
}

/**
 * @throws {Error} with what is wrong in the request
 */
export function parseRequest(bytes: string): ControlRequest {
  const given = json(bytes)
  if (typeof given !== 'object' || given === null) throw new Error('Cannot read the request: it is no object of JSON')
  const { version } = given as { readonly version?: unknown }
  if (version !== CONTROL_VERSION)
    throw new Error(
      `Cannot read the request: it has version ${JSON.stringify(version)?.slice(0, 16)}, and this daemon takes ${CONTROL_VERSION}; use the daemon's own intercede`,
    )
  const checked = v.safeParse(Request, given, { abortEarly: true })
  if (checked.success) return checked.output
  const [issue] = checked.issues
  throw new Error(`Cannot read the request: ${v.getDotPath(issue) ?? 'it'} is not what it must be`)
}
