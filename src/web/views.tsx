import { useState } from 'preact/hooks'
import { type EventRow, type Polled, SHOWN_EVENTS, useEvents, usePolled } from './client.ts'
import { ago, clock, duration, perSecond, wordsOf } from './formats.ts'
import { Plot, useCollected } from './plot.tsx'
import { Facts, Table } from './table.tsx'

/** The shortest time between two looks at what changes, in milliseconds. */
const LIVE_MS = 1000
const SLOW_MS = 10_000

interface Names {
  readonly container: string
  readonly name?: string
  readonly image?: string
  readonly namespace?: string
  readonly pod?: string
}

interface Rate extends Names {
  readonly syscall: string
  readonly rate: number
  readonly done: number
  readonly left: number
  readonly errors: number
  readonly p50?: number | null
  readonly p99?: number | null
}

interface Summary {
  readonly id: string
  readonly serial: number
  readonly runtime: string
  readonly name: string
  readonly image: string
  readonly namespace?: string
  readonly pod?: string
  readonly state: string
  readonly calls: number
  readonly lastRefusal?: string
  readonly lastRefusalTime?: string
}

interface Refusal extends Names {
  readonly count: number
  readonly call: string
  readonly verdict: string
  readonly errno?: string
  readonly reason: string
  readonly says: string
  readonly remedy: string
  readonly time: string
  readonly first?: string
  readonly now?: string
  readonly set?: string
  readonly forGood?: string
  readonly allows?: string
}

/** What tells kinds of refusals of a container: their last calls change. */
const kindOf = ({ call, verdict, errno, says }: Refusal): string => [/^\w+/.exec(call), verdict, errno, says].join(' ')

const shortId = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id)
const nameOf = ({ name = '', namespace, pod, ...rest }: Partial<Names & { id: string }>): string => {
  const ofPod = [namespace, pod].filter(Boolean).join('/')
  return [ofPod, name === ofPod ? '' : name].filter(Boolean).join('/') || shortId(rest.id ?? rest.container ?? '')
}

/** Says what is wrong, and how old what is shown is. */
function Notice({ of: { trouble, value, at, every } }: { readonly of: Polled<unknown> }) {
  if (!trouble)
    return (
      <p class="fresh">
        {value === undefined
          ? 'Loading\u2026'
          : every >= 2 * LIVE_MS && `Shown every ${Math.round(every / 1000)} seconds`}
      </p>
    )
  return (
    <p class="trouble" role="alert">
      {trouble.message} {value !== undefined && `What is shown is of ${clock(at)}.`}
    </p>
  )
}

const sum = (rates: readonly Rate[], of: 'done' | 'left' | 'errors'): number =>
  rates.reduce((total, rate) => total + rate[of], 0)

function Calls({ of: key, at, rates }: { readonly of: string; readonly at: number; readonly rates: readonly Rate[] }) {
  const data = useCollected(key, at, [sum(rates, 'done'), sum(rates, 'left'), sum(rates, 'errors')])
  return <Plot name="Calls per second" labels={['done', 'left', 'error']} data={data} format={perSecond} />
}

export function Containers() {
  const polled = usePolled<{ containers: readonly Summary[]; rates: readonly Rate[] }>('containers', LIVE_MS)
  const { containers = [], rates = [] } = polled.value ?? {}
  const byId = new Map(rates.map((rate) => [rate.container, rate]))
  const rateOf = ({ id }: Summary): Partial<Rate> => byId.get(id) ?? {}
  return (
    <>
      <h1>Containers</h1>
      <Notice of={polled} />
      <Calls of="all" at={polled.at} rates={rates} />
      {polled.value && (
        <Table
          name="Containers"
          none="No container is served. A container is listed here when it starts with a profile of Intercede."
          rows={containers}
          keyOf={({ serial }) => serial}
          by="Calls/s"
          columns={[
            {
              title: 'Container',
              of: nameOf,
              shown: (row) => <a href={`#/containers/${row.serial}`}>{nameOf(row)}</a>,
            },
            { title: 'Image', of: ({ image }) => image },
            { title: 'State', of: ({ state }) => state },
            { title: 'Calls', of: ({ calls }) => calls },
            { title: 'Calls/s', of: (row) => rateOf(row).rate ?? 0, shown: (row) => perSecond(rateOf(row).rate) },
            { title: 'Done/s', of: (row) => rateOf(row).done ?? 0, shown: (row) => perSecond(rateOf(row).done) },
            { title: 'Left/s', of: (row) => rateOf(row).left ?? 0, shown: (row) => perSecond(rateOf(row).left) },
            { title: 'Errors/s', of: (row) => rateOf(row).errors ?? 0, shown: (row) => perSecond(rateOf(row).errors) },
            { title: 'P50', of: (row) => rateOf(row).p50 ?? 0, shown: (row) => duration(rateOf(row).p50) },
            { title: 'P99', of: (row) => rateOf(row).p99 ?? 0, shown: (row) => duration(rateOf(row).p99) },
            { title: 'Last refusal', of: ({ lastRefusal }) => lastRefusal },
            {
              title: 'When',
              of: ({ lastRefusalTime }) => lastRefusalTime,
              shown: ({ lastRefusalTime }) => ago(lastRefusalTime),
            },
          ]}
        />
      )}
    </>
  )
}

interface Key {
  readonly value: string
  readonly origin: string
  readonly ceiling?: string
}

interface Detail extends Omit<Summary, 'name' | 'image'> {
  readonly name?: string
  readonly image?: string
  readonly keys?: Readonly<Record<string, Key>>
  readonly pid: number
  readonly since?: string
  readonly ended?: string
  readonly profile?: string
  readonly cgroup?: string
  readonly traps?: readonly string[] | string
  readonly inFlight: number
  readonly stuck: number
  readonly barred?: { readonly says: string }
  readonly refusals: readonly Refusal[]
  readonly droppedRefusals?: number
}

/** An order that stays while calls are made. */
const byFirst = (one: Refusal, other: Refusal): number =>
  (one.first ?? one.time).localeCompare(other.first ?? other.time)

function Copy({ text }: { readonly text: string }) {
  const [said, say] = useState('')
  const copy = (): Promise<void> =>
    navigator.clipboard.writeText(text).then(
      () => say('Copied'),
      () => say('The browser does not allow it'),
    )
  return (
    <>
      <code class="text">{text}</code>{' '}
      <button type="button" onClick={() => void copy()}>
        Copy
      </button>
      <span role="status">{said}</span>
    </>
  )
}

function Refused({ of }: { readonly of: Refusal }) {
  const { call, verdict, errno, count, time, reason, says, remedy, now, set, forGood, allows } = of
  return (
    <li>
      <code class="text">{call}</code>
      <Facts
        of={[
          [
            'Outcome',
            `${verdict === 'left' ? 'left to the kernel' : `${verdict} ${errno ?? ''}`}, ${count} times, the last ${ago(time)}`,
          ],
          ['Why', `${says} [${reason}]`],
          ['What to do', remedy],
          ['Now', set === undefined ? now : <Copy text={set} />],
          ['For good', forGood],
          ['Which allows', allows],
        ]}
      />
    </li>
  )
}

/** Whom an event concerns, what happened, and what became of it. */
const eventColumns = [
  {
    title: 'Time',
    of: ({ time }: EventRow) => time,
    shown: ({ time }: EventRow) => clock(time),
  },
  { title: 'Container', of: ({ container, name }: EventRow) => nameOf({ container, ...(name ? { name } : {}) }) },
  { title: 'Event', of: ({ type, call, message }: EventRow) => call ?? [type, message].filter(Boolean).join(': ') },
  { title: 'Outcome', of: ({ verdict, errno }: EventRow) => [verdict, errno].filter(Boolean).join(' ') },
  { title: 'Reason', of: ({ reason }: EventRow) => reason ?? '' },
  {
    title: 'Took',
    of: ({ microseconds }: EventRow) => microseconds,
    shown: (row: EventRow) => duration(row.microseconds),
  },
]

function Recent({ path }: { readonly path: string }) {
  const { rows, seen, lost } = useEvents(path)
  const keys = new Map(rows.map((row, index) => [row, seen - index]))
  return (
    <>
      <h2>Recent events</h2>
      <p class="fresh">
        {seen > SHOWN_EVENTS && `A sample: the last ${SHOWN_EVENTS} of ${seen} events. `}
        {lost > 0 && `${lost} more came faster than they could be read.`}
      </p>
      <Table
        name="Events"
        none="Nothing has happened yet."
        rows={rows}
        keyOf={(row) => keys.get(row)!}
        columns={eventColumns}
      />
    </>
  )
}

export function Container({ serial }: { readonly serial: string }) {
  const path = `containers/${serial}`
  const polled = usePolled<{ container: Detail; rates: readonly Rate[] }>(path, LIVE_MS)
  const { container, rates = [] } = polled.value ?? {}
  const most = (of: 'p50' | 'p99'): number | null =>
    rates.reduce((top, rate) => Math.max(top, rate[of] ?? 0), 0) || null
  const latency = useCollected(path, polled.at, [most('p50'), most('p99')])
  const { traps } = container ?? {}
  return (
    <>
      <h1 class="text">{container ? nameOf(container) : 'Container'}</h1>
      <Notice of={polled} />
      {container && (
        <>
          <Facts
            of={[
              ['Id', container.id],
              ['Image', container.image],
              ['Runtime', container.runtime],
              ['State', container.barred ? `${container.state}: ${container.barred.says}` : container.state],
              ['PID', container.pid || undefined],
              ['Since', container.since],
              ['Ended', container.ended],
              ['Profile', container.profile],
              ['Control group', container.cgroup],
              ['Traps', typeof traps === 'string' ? traps : traps?.join(', ')],
              ['Calls', `${container.calls}, ${container.inFlight} in flight, ${container.stuck} stuck`],
            ]}
          />
          <Calls of={path} at={polled.at} rates={rates} />
          <Plot name="Latency of the slowest call" labels={['p50', 'p99']} data={latency} format={duration} />
          <h2>Refusals</h2>
          {container.refusals.length === 0 && <p class="none">Nothing was refused.</p>}
          <ul class="refusals">
            {container.refusals.toSorted(byFirst).map((each) => (
              <Refused key={kindOf(each)} of={each} />
            ))}
          </ul>
          {(container.droppedRefusals ?? 0) > 0 && (
            <p>{container.droppedRefusals} more kinds of refusals were forgotten.</p>
          )}
          <h2>Policy</h2>
          <Table
            name="Policy"
            none="Its policy is not known."
            rows={Object.entries(container.keys ?? {})}
            keyOf={([key]) => key}
            columns={[
              { title: 'Key', of: ([key]) => key },
              { title: 'Value', of: ([, { value }]) => value },
              { title: 'Origin', of: ([, { origin }]) => origin },
              { title: 'Ceiling', of: ([, { ceiling }]) => ceiling },
            ]}
          />
          <Recent path={`events/${serial}`} />
        </>
      )}
    </>
  )
}

interface Past {
  readonly begun: string
  readonly lost: number
  readonly corrupt: number
  readonly unread: number
  readonly refusals: readonly Refusal[]
}

const DAYS = [1, 7, 30]
const DAY_MS = 86_400_000
const dayOf = (time: number): number => new Date(time).setHours(0, 0, 0, 0)

/** Adds up refusals by the day of the last one of their kind. */
function byDay(refusals: readonly Refusal[], days: number): number[][] {
  const today = dayOf(Date.now())
  const all = Array.from({ length: days + 1 }, (_, index) => dayOf(today - (days - index) * DAY_MS + DAY_MS / 2))
  const counts = new Map(all.map((day) => [day, 0]))
  for (const { time, count } of refusals) {
    const day = dayOf(Date.parse(time))
    counts.set(day, (counts.get(day) ?? 0) + count)
  }
  return [all.map((day) => day / 1000), all.map((day) => counts.get(day)!)]
}

export function History() {
  const [days, setDays] = useState(7)
  const [by, setBy] = useState<'container' | 'image'>('container')
  const polled = usePolled<Past>(`history/${days}`, 0)
  const { value: past } = polled
  const groupOf = (row: Refusal): string => (by === 'image' ? (row.image ?? 'no image known') : nameOf(row))
  const groups = new Map<string, Map<string, Refusal>>()
  for (const row of past?.refusals ?? []) {
    const group = groups.get(groupOf(row)) ?? new Map<string, Refusal>()
    groups.set(groupOf(row), group)
    const kind = kindOf(row)
    const other = group.get(kind)
    const count = row.count + (other?.count ?? 0)
    group.set(kind, { ...(other && other.time > row.time ? other : row), count })
  }
  const rows = [...groups].flatMap(([group, kinds]) => [...kinds.values()].map((row) => ({ ...row, group })))
  return (
    <>
      <h1>History</h1>
      <Notice of={polled} />
      <div class="tools">
        <label>
          Days{' '}
          <select value={days} onChange={({ currentTarget }) => setDays(Number(currentTarget.value))}>
            {DAYS.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <label>
          By{' '}
          <select value={by} onChange={({ currentTarget }) => setBy(currentTarget.value as typeof by)}>
            <option>container</option>
            <option>image</option>
          </select>
        </label>
      </div>
      {past && (
        <>
          <p class="fresh">
            Each kind of refusals counts on the day of its last call.
            {past.lost > 0 && ` History lacks ${past.lost} lines that could not be written.`}
            {past.corrupt > 0 && ` ${past.corrupt} lines cannot be read.`}
            {past.unread > 0 && ` ${past.unread} more kinds are left out: "intercede explain" has them.`}
          </p>
          <Plot
            key={days}
            name="Refusals by day"
            labels={['refusals']}
            data={byDay(past.refusals, days)}
            format={(value) => `${Math.round(value)}`}
            isByDay
          />
          <Table
            name="Refusals"
            none="History has no refusals of this time."
            rows={rows}
            keyOf={(row) => `${row.group} ${kindOf(row)}`}
            by="Count"
            columns={[
              { title: by === 'image' ? 'Image' : 'Container', of: ({ group }) => group },
              { title: 'Count', of: ({ count }) => count },
              { title: 'Call', of: ({ call }) => call },
              { title: 'Outcome', of: ({ verdict, errno }) => [verdict, errno].filter(Boolean).join(' ') },
              { title: 'Why', of: ({ says }) => says },
              { title: 'What to do', of: ({ remedy }) => remedy },
              { title: 'Last', of: ({ time }) => time, shown: ({ time }) => ago(time) },
            ]}
          />
        </>
      )}
    </>
  )
}

interface Status {
  readonly keeper: number
  readonly engine: number
  readonly containers: number
  readonly unserved?: number
  readonly most: Readonly<Record<string, Names & { readonly value: number }>>
  readonly daemon: Readonly<Record<string, unknown>> & {
    readonly limits?: Readonly<Record<string, number>>
    readonly notReloaded?: { readonly message: string }
  }
}

interface Finding {
  readonly name: string
  readonly health: string
  readonly found: string
  readonly follows: string
  readonly remedy: string
}

const text = (value: unknown): string | undefined => (value === undefined ? undefined : String(value))
/** What counters have, by cause: nothing where it is 0. */
const counts = (value: unknown): string =>
  Object.entries((value ?? {}) as Readonly<Record<string, number>>)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ') || 'none'

/** What is wrong comes first. */
const wellness = ({ health }: Finding): number => Number(health === 'ok')

function Doctor() {
  const polled = usePolled<{ diagnoses: readonly Finding[] }>('doctor', 0)
  return (
    <>
      <h2>What doctor finds</h2>
      <Notice of={polled} />
      {polled.value && (
        <Table
          name="Findings"
          none="It finds nothing."
          rows={polled.value.diagnoses.toSorted((one, other) => wellness(one) - wellness(other))}
          keyOf={({ name }) => name}
          columns={[
            { title: 'What', of: ({ name }) => name },
            { title: 'Health', of: ({ health }) => health },
            { title: 'Found', of: ({ found }) => found },
            { title: 'What follows', of: ({ follows }) => follows },
            { title: 'What to do', of: ({ remedy }) => remedy },
          ]}
        />
      )}
    </>
  )
}

export function Daemon() {
  const polled = usePolled<Status>('daemon', SLOW_MS)
  const { value } = polled
  const { daemon } = value ?? {}
  return (
    <>
      <h1>Daemon</h1>
      <Notice of={polled} />
      {value && daemon && (
        <>
          <Facts
            of={[
              ['Version', text(daemon.version)],
              ['Since', text(daemon.since)],
              ['Configured', text(daemon.reloaded)],
              ['Last reload', daemon.notReloaded && `failed: ${daemon.notReloaded.message}`],
              ['Keeper', value.keeper],
              ['Engine', value.engine === 0 ? 'none serves now' : `${value.engine}, since ${daemon.engineSince}`],
              ['Engines that ended', counts(daemon.restarts)],
              ['Containers', `${value.containers}, ${value.unserved ?? 0} not served`],
              ['Hand-overs', counts(daemon.registrations)],
              ['Reloads', counts(daemon.reloads)],
              ['Stuck calls', text(daemon.stuck)],
              ['Records lost', text(daemon.recordsLost)],
              ['Log lines left out', text(daemon.linesSuppressed)],
              ['History', text(daemon.history ?? daemon.historyFlaw ?? 'not kept')],
              ['Lines of history lost', text(daemon.historyLost ?? 0)],
            ]}
          />
          <h2>Limits</h2>
          <Table
            name="Limits"
            none="The daemon names no limits."
            rows={Object.entries(daemon.limits ?? {})}
            keyOf={([name]) => name}
            columns={[
              { title: 'Limit', of: ([name]) => wordsOf(name) },
              { title: 'At most', of: ([, most]) => most },
              { title: 'The most now', of: ([name]) => value.most[name]?.value ?? 0 },
              { title: 'Used', of: ([name, most]) => `${Math.round((100 * (value.most[name]?.value ?? 0)) / most)} %` },
              { title: 'By', of: ([name]) => ((value.most[name]?.value ?? 0) > 0 ? nameOf(value.most[name]!) : '') },
            ]}
          />
        </>
      )}
      <Doctor />
      <Recent path="events" />
    </>
  )
}
