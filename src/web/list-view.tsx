import { usePolled } from './client.ts'
import { formatAge, formatMicroseconds, perSecond } from './formats.ts'
import { Calls, LIVE_MS, Notice, nameOf, type Rate } from './parts.tsx'
import { Table } from './table.tsx'

export interface Summary {
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

/** All containers, live. */
export function ListView() {
  const polled = usePolled<{ containers: readonly Summary[]; rates?: readonly Rate[] }>('containers', LIVE_MS)
  const { containers = [], rates } = polled.value ?? {}
  const byId = new Map(rates?.map((rate) => [rate.container, rate]))
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
            { title: 'P50', of: (row) => rateOf(row).p50 ?? 0, shown: (row) => formatMicroseconds(rateOf(row).p50) },
            { title: 'P99', of: (row) => rateOf(row).p99 ?? 0, shown: (row) => formatMicroseconds(rateOf(row).p99) },
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
