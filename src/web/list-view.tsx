import { usePolled } from './client.ts'
import { formatAge, formatMicroseconds, perSecond } from './formats.ts'
import { briefId, Calls, LIVE_MS, Notice, nameOf, type Rate, useTitle } from './parts.tsx'
import { Table } from './table.tsx'

export interface Summary {
  readonly id: string
  readonly serial: number
  readonly runtime: string
  readonly name: string
  readonly image: string
  /** Of a run. */
  readonly command?: string
  readonly namespace?: string
  readonly pod?: string
  readonly state: string
  readonly calls: number
  /** What "intercede ps" says. */
  readonly stateWord: string
  readonly callsWord: string
  readonly lastRefusal?: string
  readonly lastRefusalTime?: string
}

/** The states in which a daemon counts calls. */
export const SERVED: ReadonlySet<string> = new Set(['served', 'observed', 'left'])
const NO_CALLS = { rate: 0, done: 0, left: 0, errors: 0 }
/** Infinity becomes null in JSON. */
const boundOf = (us: number | null | undefined): number | undefined => (us === null ? Number.POSITIVE_INFINITY : us)
/** Undefined where it is not known. */
const callsOf = ({ calls, callsWord }: Summary): number | undefined => (callsWord === '-' ? undefined : calls)

/** All containers, live. */
export function ListView() {
  const polled = usePolled<{ containers: readonly Summary[]; rates?: readonly Rate[] }>('containers', LIVE_MS)
  const { containers = [], rates } = polled.value ?? {}
  const byId = new Map(rates?.map((rate) => [rate.container, rate]))
  /** A container that is served and makes no calls has no rate of its own; of others, none is known. */
  const rateOf = ({ id, state }: Summary): Partial<Rate> => byId.get(id) ?? (rates && SERVED.has(state) ? NO_CALLS : {})
  const rateColumn = (title: string, name: keyof typeof NO_CALLS) => ({
    title,
    of: (row: Summary) => rateOf(row)[name],
    shown: (row: Summary) => perSecond(rateOf(row)[name]),
  })
  const boundColumn = (title: string, name: 'p50' | 'p99') => ({
    ...{ title, unit: 'us' },
    of: (row: Summary) => boundOf(rateOf(row)[name]),
    shown: (row: Summary) => formatMicroseconds(rateOf(row)[name]),
  })
  useTitle('Containers')
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
            // Engines may give two containers one name. One without a name is called by its id.
            {
              title: 'ID',
              of: ({ id }) => id,
              shown: (row) => (nameOf(row) === briefId(row.id) ? '' : briefId(row.id)),
            },
            { title: 'Image', of: ({ image }) => image },
            { title: 'State', of: ({ stateWord }) => stateWord },
            { title: 'Calls', of: callsOf, shown: ({ callsWord }) => callsWord },
            rateColumn('Calls/s', 'rate'),
            rateColumn('Done/s', 'done'),
            rateColumn('Left/s', 'left'),
            rateColumn('Errors/s', 'errors'),
            boundColumn('P50', 'p50'),
            boundColumn('P99', 'p99'),
            { title: 'Last refusal', of: ({ lastRefusal }) => lastRefusal },
            {
              title: 'When',
              of: ({ lastRefusalTime }) => lastRefusalTime,
              shown: ({ lastRefusalTime }) => formatAge(lastRefusalTime),
            },
          ]}
        />
      )}
    </>
  )
}
