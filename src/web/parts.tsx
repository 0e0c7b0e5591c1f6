import { type EventRow, type Polled, SHOWN_EVENTS, useEvents } from './client.ts'
import { clock, formatMicroseconds, perSecond } from './formats.ts'
import { Plot, useCollected } from './plot.tsx'
import { Table } from './table.tsx'

/** The shortest time between two looks at what changes, in milliseconds. */
export const LIVE_MS = 1000

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
}

/** What tells kinds of refusals of a container: their last calls change. */
export const refusalKind = ({ call, verdict, errno, says }: Refusal): string =>
  [/^\w+/.exec(call), verdict, errno, says].join(' ')

const shortId = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id)
export const nameOf = ({ name = '', namespace, pod, ...rest }: Partial<Names & { id: string }>): string => {
  const ofPod = [namespace, pod].filter(Boolean).join('/')
  return [ofPod, name === ofPod ? '' : name].filter(Boolean).join('/') || shortId(rest.id ?? rest.container ?? '')
}

/** Says what is wrong, and how old what is shown is. */
export function Notice({ of: { trouble, value, at, every } }: { readonly of: Polled<unknown> }) {
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
    of: ({ microseconds }: EventRow) => microseconds,
    shown: (row: EventRow) => formatMicroseconds(row.microseconds),
  },
]

export function Recent({ path }: { readonly path: string }) {
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
