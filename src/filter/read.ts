import * as v from 'valibot'
import type { OciSeccomp } from './oci.ts'

const text = v.string('not a text')
const texts = v.array(text, 'not a list')
const action = v.pipe(
  text,
  v.regex(
    /^SCMP_ACT_(?:KILL|KILL_PROCESS|KILL_THREAD|TRAP|ERRNO|TRACE|ALLOW|LOG|NOTIFY)$/,
    'not an action of libseccomp',
  ),
)
const whole = v.pipe(v.number('not a number'), v.safeInteger('not a whole number'), v.minValue(0, 'less than 0'))
/** A number that a JavaScript number cannot hold, in the form that `exactly` makes of it. */
const long = v.pipe(
  v.string(),
  v.regex(/^\d{16,20}$/),
  v.transform((digits: string): bigint => BigInt(digits)),
  v.check((number) => number < 2n ** 64n, 'more than 64 bits'),
)
const value = v.union([whole, long], 'not a whole number of 64 bits')
const arg = v.looseObject({
  index: v.pipe(whole, v.maxValue(5, 'a call has six arguments, from 0')),
  value,
  valueTwo: v.exactOptional(value),
  op: v.pipe(text, v.regex(/^SCMP_CMP_(?:NE|LT|LE|EQ|GE|GT|MASKED_EQ)$/, 'not an operator of libseccomp')),
})
const guard = v.looseObject(
  { caps: v.nullish(texts), arches: v.nullish(texts), minKernel: v.exactOptional(text) },
  'not an object',
)
const rule = v.looseObject(
  {
    names: texts,
    action,
    errnoRet: v.nullish(whole),
    args: v.nullish(v.array(arg, 'not a list')),
    includes: v.nullish(guard),
    excludes: v.nullish(guard),
  },
  'not an object',
)
const architecture = v.looseObject({ architecture: text, subArchitectures: v.nullish(texts) }, 'not an object')
const Profile = v.looseObject(
  {
    defaultAction: action,
    architectures: v.nullish(texts),
    archMap: v.nullish(v.array(architecture, 'not a list')),
    flags: v.nullish(texts),
    listenerPath: v.nullish(text),
    listenerMetadata: v.nullish(text),
    syscalls: v.nullish(v.array(rule, 'not a list')),
  },
  'not an object',
)

/** Quotes long numbers, which JSON.parse() would round: a mask of 64 bits, or -1. */
const exactly = (json: string): string => json.replace(/("value(?:Two)?"\s*:\s*)(\d{16,})(?=\s*[,}])/g, '$1"$2"')

/** Drops null members, which mean an absent member to Go, in which the usual readers of these files are written. */
const withoutNull = (object: object): object =>
  Object.fromEntries(Object.entries(object).filter(([, member]) => member !== null))

/**
 * Parses a profile of podman, Docker or a runtime, and keeps members that we do not know.
 *
 * @throws {Error} that says what is wrong with it and where
 */
export function readProfile(json: string): OciSeccomp {
  const result = v.safeParse(Profile, JSON.parse(exactly(json)))
  if (!result.success) {
    const [issue] = result.issues
    const path = v.getDotPath(issue) ?? 'the whole'
    throw new Error(`${path} is ${issue.received === 'undefined' ? 'missing' : `${issue.received}: ${issue.message}`}`)
  }
  const { syscalls, ...rest } = result.output
  return withoutNull({ ...rest, ...(syscalls ? { syscalls: syscalls.map(withoutNull) } : {}) }) as OciSeccomp
}
