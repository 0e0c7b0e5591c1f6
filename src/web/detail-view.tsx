import { useState } from 'preact/hooks'
import { usePolled } from './client.ts'
import { formatAge, formatMicroseconds } from './formats.ts'
import { SERVED, type Summary } from './list-view.tsx'
import { Calls, LIVE_MS, Notice, nameOf, type Rate, Recent, type Refusal, refusalKind, useTitle } from './parts.tsx'
import { Plot, useCollected } from './plot.tsx'
import { Facts, Table } from './table.tsx'

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
  /** What of its policy cannot work: a sentence with its remedy for each. */
  readonly warnings?: readonly string[]
  /** Annotations, and what was set, that do not count. */
  readonly ignored?: readonly { readonly key: string; readonly value: string; readonly why: string }[]
  /** What to do if no daemon serves it. */
  readonly hint?: string
  /** Until when its calls are counted: more may have come later. */
  readonly countedUntil?: string
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

function Refused({ of, isLeast }: { readonly of: Refusal; readonly isLeast: boolean }) {
  const { call, verdict, errno, count, time, reason, says, remedy, now, set, forGood, allows, note } = of
  return (
    <li>
      <code class="text">{call}</code>
      <Facts
        of={[
          [
            'Outcome',
            `${verdict === 'left' ? 'left to the kernel' : `${verdict} ${errno ?? ''}`}, ${count}${isLeast ? '+' : ''} times, the last ${formatAge(time)}`,
          ],
          ['Why', `${says} [${reason}]`],
          ['What to do', remedy],
          ['Note', note],
          ['Now', set === undefined ? now : <Copy text={set} />],
          ['For good', forGood],
          ['Which allows', allows],
        ]}
      />
    </li>
  )
}

/** One container. */
export function DetailView({ serial }: { readonly serial: string }) {
  const path = `containers/${serial}`
  const polled = usePolled<{ container: Detail; rates?: readonly Rate[] }>(path, LIVE_MS)
  const { container } = polled.value ?? {}
  /** Of others, none is known. */
  const isServed = container !== undefined && SERVED.has(container.state)
  const rates = isServed ? polled.value?.rates : undefined
  const isLeast = container?.countedUntil !== undefined
  const most = (of: 'p50' | 'p99'): number | null =>
    rates?.reduce((top, rate) => Math.max(top, rate[of] ?? 0), 0) || null
  const latency = useCollected(path, polled.at, [most('p50'), most('p99')])
  const { traps } = container ?? {}
  useTitle(container ? nameOf(container) : 'Container')
  return (
    <>
      <h1 class="text">{container ? nameOf(container) : 'Container'}</h1>
      <Notice of={polled} />
      {container && (
        <>
          <Facts
            of={[
              ['Id', container.id],
              ['Command', container.command],
              ['Image', container.image],
              ['Runtime', container.runtime],
              ['State', container.barred ? `${container.stateWord}: ${container.barred.says}` : container.stateWord],
              ['What to do', container.hint],
              ['PID', container.pid || undefined],
              ['Since', container.since],
              ['Ended', container.ended],
              ['Profile', container.profile],
              ['Control group', container.cgroup],
              ['Traps', typeof traps === 'string' ? traps : traps?.join(', ')],
              [
                'Calls',
                isServed
                  ? `${container.callsWord}, ${container.inFlight} in flight, ${container.stuck} stuck`
                  : container.callsWord,
              ],
            ]}
          />
          <Calls of={path} at={polled.at} rates={rates} />
          <Plot name="Latency of the slowest call" labels={['p50', 'p99']} data={latency} format={formatMicroseconds} />
          <h2>Refusals</h2>
          {container.refusals.length === 0 && (
            <p class="none">Nothing was refused{isLeast && ', as far as is known'}.</p>
          )}
          <ul class="refusals">
            {container.refusals.toSorted(byFirst).map((each) => (
              <Refused key={refusalKind(each)} of={each} isLeast={isLeast} />
            ))}
          </ul>
          {(container.droppedRefusals ?? 0) > 0 && (
            <p>{container.droppedRefusals} more kinds of refusals were forgotten.</p>
          )}
          <h2>Policy</h2>
          <Facts
            of={[
              // What bars the container stands above.
              ...(container.barred ? [] : (container.warnings ?? [])).map((each) => ['Cannot work', each] as const),
              ...(container.ignored ?? []).map(
                ({ key, value, why }) => ['Ignored', `${key}=${value}: ${why}`] as const,
              ),
            ]}
          />
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
