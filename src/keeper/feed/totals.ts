import type { DaemonTotals, RestartCause, registrationResults, reloadResults } from '../../memories/daemon-totals.ts'
import { FewLabels } from '../../memories/few-labels.ts'

const SUMS = ['recordsLost', 'linesSuppressed'] as const
const BY_LABEL = ['restarts', 'registrations', 'reloads'] as const

/** Counts what the daemon does, for metrics. The labels are few, and containers cannot choose them. */
export class Totals {
  readonly #sums: Record<(typeof SUMS)[number], number> = { recordsLost: 0, linesSuppressed: 0 }
  readonly #byLabel: Record<(typeof BY_LABEL)[number], Record<string, number>> = {
    ...{ restarts: {}, registrations: {}, reloads: {} },
  }
  readonly #runtimes: FewLabels

  /**
   * @param before the counters of the previous keeper
   */
  constructor(before: Partial<DaemonTotals> = {}) {
    for (const name of SUMS) this.#sums[name] += before[name] ?? 0
    for (const name of BY_LABEL)
      for (const [label, count] of Object.entries(before[name] ?? {})) this.#add(name, label, count)
    this.#runtimes = new FewLabels(Object.keys(this.#byLabel.registrations).map((label) => label.split(' ')[0]!))
  }

  lostRecords(count: number): void {
    this.#sums.recordsLost += count
  }

  suppressedLines(count = 1): void {
    this.#sums.linesSuppressed += count
  }

  engineEnded(cause: RestartCause): void {
    this.#add('restarts', cause)
  }

  /** @param by -1 if a reload that was counted as done has failed after all */
  reload(result: (typeof reloadResults)[number], by = 1): void {
    this.#add('reloads', result, by)
  }

  /** @param runtime undefined if it is not known */
  registration(runtime: unknown, result: (typeof registrationResults)[number]): void {
    this.#add('registrations', `${this.#runtimes.labelOf(runtime)} ${result}`)
  }

  get all(): Pick<DaemonTotals, (typeof SUMS)[number] | (typeof BY_LABEL)[number]> {
    return { ...this.#sums, ...this.#byLabel }
  }

  #add(name: (typeof BY_LABEL)[number], label: string, by = 1): void {
    const labels = this.#byLabel[name]
    labels[label] = (labels[label] ?? 0) + by
  }
}
