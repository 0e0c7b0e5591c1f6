import { usePolled } from './client.ts'
import { spaced } from './formats.ts'
import { type Names, Notice, nameOf, Recent, useTitle } from './parts.tsx'
import { Facts, Table } from './table.tsx'

const SLOW_MS = 4000

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

/** The daemon, its limits, and the machine. */
export function DaemonView() {
  const polled = usePolled<Status>('daemon', SLOW_MS)
  const { value } = polled
  const { daemon } = value ?? {}
  useTitle('Daemon')
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
              ['Containers', `${value.containers}, ${value.unserved ?? 'an unknown number'} not served`],
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
              { title: 'Limit', of: ([name]) => spaced(name) },
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
