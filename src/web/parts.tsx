import { useEffect, useState } from 'preact/hooks'
import { type EventRow, type Polled, SHOWN_EVENTS, useEvents } from './client.ts'
import { clock, formatMicroseconds, perSecond } from './formats.ts'
import { Plot, useCollected } from './plot.tsx'
import { Table } from './table.tsx'

/** The shortest time between two looks at what changes, in milliseconds. */
export const LIVE_MS = 1000
/** So much older than usual is old, and so long is waited until the page says so, in milliseconds. */
const LATE_MS = 2000

export interface Names {
  readonly container: string
  readonly name?: string
  readonly image?: string
  readonly namespace?: string
  readonly pod?: string
}

export interface Rate extends Names {
  readonly syscall: string
  readonly rate: number
  readonly done: number
  readonly left: number
  readonly errors: number
  readonly p50?: number | null
  readonly p99?: number | null
}

export interface Refusal extends Names {
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
  readonly note?: string
  /** Whether there may have been more, which nobody has counted. */
  readonly isLeast?: boolean
}

/** What tells kinds of refusals of a container: their last calls change. */
export const refusalKind = ({ call, verdict, errno, says }: Refusal): string =>
  [/^\w+/.exec(call), verdict, errno, says].join(' ')

/** An id as engines show it. */
export const briefId = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id)
/** The most characters of a command beside an id. */
const COMMAND_MOST = 40
export const nameOf = ({
  name = '',
  namespace,
  pod,
  ...rest
}: Partial<Names & { id: string; command: string }>): string => {
  const ofPod = [namespace, pod].filter(Boolean).join('/')
  const ofAll = [ofPod, name === ofPod ? '' : name].filter(Boolean).join('/')
  return ofAll || `${briefId(rest.id ?? rest.container ?? '')} ${(rest.command ?? '').slice(0, COMMAND_MOST)}`.trim()
}

/** Renders again and again, so that what is old says so. */
function useSeconds(): number {
  const [now, set] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), LIVE_MS)
    return () => clearInterval(timer)
  }, [])
  return now
}

/** Names what the tab shows, among other tabs. */
export const useTitle = (name: string): void =>
  useEffect(() => {
    document.title = `${name} - Intercede`
  }, [name])

const asSentence = (text: string): string => (text.endsWith('.') ? text : `${text}.`)

/** Says what is wrong, and how old what is shown is. */
export function Notice({ of: { trouble, value, at, every } }: { readonly of: Polled<object> }) {
  const now = useSeconds()
  const [asked] = useState(Date.now())
  const age = now - at
  const missing = trouble?.message ?? (value as { readonly missing?: string } | undefined)?.missing
  if (missing !== undefined)
    return (
      <p class="trouble" role="alert">
        {asSentence(missing)} {(trouble || every === 0) && value !== undefined && `What is shown is of ${clock(at)}.`}
      </p>
    )
  if (value === undefined && now - asked > LATE_MS)
    return <p class="trouble">"intercede web" has not answered yet, for {Math.round((now - asked) / 1000)} seconds.</p>
  if (value === undefined) return <p class="fresh">{'Loading\u2026'}</p>
  if (every === 0) return <p class="fresh">As of {clock(at)}</p>
  if (age > every + LATE_MS)
    return <p class="trouble">What is shown is {Math.round(age / 1000)} seconds old: the next answer takes long.</p>
  return <p class="fresh">{every >= 2 * LIVE_MS && `Shown every ${Math.round(every / 1000)} seconds`}</p>
}

const sum = (rates: readonly Rate[] | undefined, of: 'done' | 'left' | 'errors'): number | null =>
  rates?.reduce((total, rate) => total + rate[of], 0) ?? null

export function Calls({
  of: key,
  at,
  rates,
}: {
  readonly of: string
  readonly at: number
  readonly rates: readonly Rate[] | undefined
}) {
  const data = useCollected(key, at, [sum(rates, 'done'), sum(rates, 'left'), sum(rates, 'errors')])
  return <Plot name="Calls per second" labels={['done', 'left', 'error']} data={data} format={perSecond} />
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
    unit: 'us',
    of: ({ microseconds }: EventRow) => microseconds,
    shown: (row: EventRow) => formatMicroseconds(row.microseconds),
  },
]

export function Recent({ path }: { readonly path: string }) {
  const { rows, seen, lost, isOpen } = useEvents(path)
  const keys = new Map(rows.map((row, index) => [row, seen - index]))
  return (
    <>
      <h2>Recent events</h2>
      <p class="fresh">
        {isOpen === false && 'No events are received now. '}
        {seen > SHOWN_EVENTS && `The last ${SHOWN_EVENTS} events that the page has received. `}
        {lost > 0 && `${lost} more came too fast, and were left out: "intercede events" shows more.`}
      </p>
      <Table
        name="Events"
        none={isOpen ? 'Nothing has happened yet.' : ''}
        rows={rows}
        keyOf={(row) => keys.get(row)!}
        columns={eventColumns}
      />
    </>
  )
}
