import { useState } from 'preact/hooks'
import { usePolled } from './client.ts'
import { formatAge } from './formats.ts'
import { Notice, nameOf, type Refusal, refusalKind, useTitle } from './parts.tsx'
import { Plot } from './plot.tsx'
import { Table } from './table.tsx'

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

/** Returns the beginnings of the last days, of which today is one. */
const lastDays = (days: number): readonly number[] => {
  const today = dayOf(Date.now())
  // Some days have an hour more or less.
  return Array.from({ length: days }, (_, index) => dayOf(today - (days - 1 - index) * DAY_MS + DAY_MS / 2))
}

/**
 * Adds up refusals by the day of the last one of their kind. Days of which nothing is known, before history began, are
 * left out.
 */
function byDay({ refusals, begun }: Past, days: number): number[][] {
  const counts = new Map<number, number>()
  for (const { time, count } of refusals) {
    const day = dayOf(Date.parse(time))
    counts.set(day, (counts.get(day) ?? 0) + count)
  }
  const first = [...counts.keys()].reduce((one, other) => Math.min(one, other), dayOf(Date.parse(begun)))
  const all = lastDays(days).filter((day) => day >= first)
  return [all.map((day) => day / 1000), all.map((day) => counts.get(day) ?? 0)]
}

/** What was refused in days. */
export function HistoryView() {
  const [days, setDays] = useState(7)
  const [by, setBy] = useState<'container' | 'image'>('container')
  const polled = usePolled<Past>(`history/${lastDays(days)[0]}`, 0)
  const { value: past } = polled
  useTitle('History')
  const groupOf = (row: Refusal): string => (by === 'image' ? (row.image ?? 'no image known') : nameOf(row))
  const groups = new Map<string, Map<string, Refusal>>()
  for (const row of past?.refusals ?? []) {
    const group = groups.get(groupOf(row)) ?? new Map<string, Refusal>()
    groups.set(groupOf(row), group)
    const kind = refusalKind(row)
    const other = group.get(kind)
    const count = row.count + (other?.count ?? 0)
    const isLeast = row.isLeast || other?.isLeast || false
    group.set(kind, { ...(other && other.time > row.time ? other : row), count, isLeast })
  }
  const rows = [...groups].flatMap(([group, kinds]) => [...kinds.values()].map((row) => ({ ...row, group })))
  return (
    <>
      <h1>History</h1>
      <Notice key={days} of={polled} />
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
            {Date.parse(past.begun) > lastDays(days)[0]! &&
              ` History begins at ${new Date(past.begun).toLocaleString([], { hour12: false })}: what happened before is not known.`}
            {past.lost > 0 && ` History lacks ${past.lost} lines that could not be written.`}
            {past.corrupt > 0 && ` ${past.corrupt} lines cannot be read.`}
            {past.unread > 0 && ` ${past.unread} more kinds are left out: "intercede explain" has them.`}
          </p>
          <Plot
            key={days}
            name="Refusals by day"
            labels={['refusals']}
            data={byDay(past, days)}
            format={(value) => `${Math.round(value)}`}
            isByDay
          />
          <Table
            name="Refusals"
            none="History has no refusals of this time."
            rows={rows}
            keyOf={(row) => `${row.group} ${refusalKind(row)}`}
            by="Count"
            columns={[
              { title: by === 'image' ? 'Image' : 'Container', of: ({ group }) => group },
              {
                title: 'Count',
                of: ({ count }) => count,
                shown: ({ count, isLeast }) => `${count}${isLeast ? '+' : ''}`,
              },
              { title: 'Call', of: ({ call }) => call },
              { title: 'Outcome', of: ({ verdict, errno }) => [verdict, errno].filter(Boolean).join(' ') },
              { title: 'Why', of: ({ says }) => says },
              { title: 'What to do', of: ({ remedy }) => remedy },
              { title: 'Last', of: ({ time }) => time, shown: ({ time }) => formatAge(time) },
            ]}
          />
        </>
      )}
    </>
  )
}
