import { stringify } from 'yaml'
import { printable } from '../calls/escape.ts'
import { CallSyntaxError, type ParsedCall, parseCall } from '../calls/parse-call.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import type { Policy } from '../policy/policy.ts'
import { parsePolicy } from '../policy/settings.ts'
import { keysGiven } from '../reader/container-fields.ts'
import { concerns, type EventOptions, EventStream, type EventView } from '../reader/event-stream.ts'
import { briefly, byKey } from '../shared/texts.ts'
import type { CallerDescription } from '../syscalls/caller-facts.ts'
import { type CallDecision, decideFor, MissingFact } from '../syscalls/described-caller.ts'
import { containerSource } from './events.ts'
import { formatContainer, openFeed, openFeeds, type ReadOptions, sayLost, sayMissing } from './open-feed.ts'
import { print, say } from './print.ts'
import { checkUsage, NegativeAnswer } from './usage.ts'

const path = (facts: NonNullable<CallerDescription['path']>): CallerDescription => ({ path: facts })

/** What a reason says of a caller, of whom records have no more. */
const CALLERS: Readonly<Partial<Record<ReasonCode, CallerDescription>>> = {
  childUserns: { userNamespace: 'nested' },
  hostUserns: { userNamespace: 'host', capabilities: 'none' },
  hostCapability: { userNamespace: 'host' },
  hostMounts: { mountNamespace: 'host' },
  lacksCapability: { capabilities: 'none' },
  deviceCgroup: { deviceRules: 'none' },
  doneButClosed: { deviceRules: ['c *:* m'] },
  deviceNotGranted: { deviceRules: ['c *:* m', 'b *:* m'] },
  everyDeviceGranted: { deviceRules: 'all' },
  doneOnNodev: path({ devices: 'nodev' }),
  containerSuperblock: path({ devices: 'overlayOfContainer' }),
  notOfContainer: path({ owner: 'unmapped' }),
  pathNotResolved: path({ errno: 'ENOENT' }),
  kernelMountsIt: path({ mountedBy: 'container' }),
  noSuchTask: { task: 'none' },
  scheduledByHost: { task: { policy: 'SCHED_DEADLINE', priority: 0 } },
}

/** Reasons of what came of an act, which no test does: that there was an act is expected. */
const OF_ACTS: ReadonlySet<string | undefined> = new Set(['kernelAnswered', 'adopted'])

interface RecordCase {
  readonly call: string
  readonly caller?: CallerDescription
  readonly expect: string
  readonly reason?: string
}

/** Returns who may have made a call, by the reason of its outcome; first an ordinary caller. */
function candidates({ args }: ParsedCall, reason = ''): readonly CallerDescription[] {
  const code = reason as ReasonCode
  const descriptor = `${Number(BigInt.asIntN(32, args[0]!))}`
  const implied: CallerDescription = {
    ...CALLERS[code],
    ...(reason.startsWith('fuse') ? { fuse: code } : {}),
    ...(reason.startsWith('foreign') ? { descriptors: { [descriptor]: { is: 'other' } } } : {}),
  }
  return [{}, implied]
}

/** Decides as for this caller; undefined, and the sentence in `missing`, if that takes more facts. */
function decided(
  call: ParsedCall,
  caller: CallerDescription,
  policy: Policy,
  missing: string[],
): CallDecision | undefined {
  try {
    return decideFor(call, caller, policy)
  } catch (error) {
    if (!(error instanceof MissingFact)) throw error
    missing.push(error.message)
    return undefined
  }
}

/** What a case is made of: a call, or the last call of a kind of refusals. */
type RecordedCall = { readonly [Name in 'call' | 'verdict' | 'errno' | 'reason']?: string | undefined }

/** Returns the case of a recorded call, or why there is none. */
export function caseOf(recorded: RecordedCall, policy: Policy): RecordCase | string {
  const { call = '', verdict = '', errno, reason } = recorded
  const isOfAct = OF_ACTS.has(reason)
  const outcome = isOfAct ? 'done' : verdict
  let parsed: ParsedCall
  try {
    parsed = parseCall(call)
  } catch (error) {
    if (error instanceof CallSyntaxError) return error.message
    throw error
  }
  const missing: string[] = []
  const caller = candidates(parsed, reason).find((each) => {
    const decision = decided(parsed, each, policy, missing)
    return decision?.outcome === outcome && (isOfAct || decision.why.code === reason)
  })
  if (!caller) return missing[0] ?? `it was ${outcome} [${reason}], by what no record has of the caller`
  return {
    call,
    ...(Object.keys(caller).length > 0 ? { caller } : {}),
    expect: outcome === 'error' && errno !== undefined ? `error ${errno}` : outcome,
    ...(isOfAct || reason === undefined ? {} : { reason }),
  }
}

const comment = (text: string): string => `# ${printable(text)}\n`

/** Returns the file of tests; undefined if there are no calls. */
export function casesFile(
  container: string,
  given: Readonly<Record<string, string>>,
  calls: readonly RecordedCall[],
): string | undefined {
  const policy = parsePolicy(Object.entries(given))
  const kinds = new Map(
    calls
      .filter(({ call, verdict }) => call !== undefined && verdict !== 'gone')
      .map((each) => [[each.call, each.verdict, each.errno, each.reason].join(' '), each]),
  )
  if (kinds.size === 0) return undefined
  const all = [...kinds.values()].map((each) => ({ ...each, found: caseOf(each, policy) }))
  const cases = all.flatMap(({ found }) => (typeof found === 'string' ? [] : [found]))
  const left = all.flatMap(({ call, found }) => (typeof found === 'string' ? [[found, call!] as const] : []))
  return [
    comment(
      `What ${container} did, by the records of Intercede. The policy is that of now. A record does not hold the`,
    ),
    comment('caller, nor memory beyond names and paths: callers are those that the reasons imply.'),
    stringify({ policy: given, tests: cases }, { lineWidth: 0 }),
    ...(left.length > 0 ? [comment('Left out:')] : []),
    ...[...byKey(left)].flatMap(([why, calls]) => [
      ...calls.map((call) => comment(`  ${call}`)),
      comment(`    ${why}`),
    ]),
  ].join('')
}

interface RecordOptions extends ReadOptions {
  readonly fromRecords: string
}

/** Prints the file of tests for `--from-records`. */
export async function fromRecordsCommand(files: readonly string[], { fromRecords: word, ...options }: RecordOptions) {
  checkUsage(
    files.length === 0,
    `Cannot use ${briefly(files[0])} with --from-records, which writes a file; leave it out`,
  )
  const { feed, history } = options
  using feeds = openFeeds(feed, { directory: history })
  const { views, ids, connect = () => openFeed(feed), lastWords } = containerSource(feeds, word)
  const view = views[0]!
  sayMissing(feeds)
  sayLost(feeds)
  const isThere = feeds.daemon !== undefined || lastWords !== undefined
  const calls = isThere ? await callsOf(ids, { connect, lastWords }) : []
  const name = formatContainer(view)
  const refused = views.flatMap(({ refusals }) => refusals)
  const text = casesFile(name, Object.fromEntries(keysGiven(view)), [...calls, ...refused])
  if (text === undefined) throw new NegativeAnswer(`Cannot write cases: no call of ${name} is recorded`)
  if (calls.length === 0) say(`No record of the calls of ${name} is left: the cases are of what was refused`)
  print(text)
}

/** Returns the calls of containers whose records are still there. */
async function callsOf(
  ids: readonly string[],
  source: Pick<EventOptions, 'connect' | 'lastWords'>,
): Promise<readonly EventView[]> {
  const wanted = (event: EventView): boolean => event.type === 'call' && ids.some((id) => concerns(event, id))
  using stream = new EventStream({ ...source, follow: false, wanted })
  const events: EventView[] = []
  for await (const batch of stream.batches()) events.push(...batch)
  return events
}
