import { NOTIF } from '../../abi/seccomp.ts'
import { syscallName } from '../../abi/syscalls.ts'
import { type Outcome, outcomeOfError } from './outcome.ts'

/** How many different faults one thread reports at most. */
const LIMIT = 64

/** Reports each fault of ours once, since a container may repeat the call. */
export class FaultReport {
  readonly #slots: DataView
  readonly #tell: (message: string) => void
  readonly #told = new Set<string>()

  /** @param tell receives a sentence for each fault */
  constructor(slots: DataView, tell: (message: string) => void) {
    this.#slots = slots
    this.#tell = tell
  }

  /** Maps an exception to the outcome of the call in `slot`, and reports it if it is a fault. */
  outcomeOf(error: unknown, slot: number): Outcome {
    const outcome = outcomeOfError(error)
    if (outcome.why.code === 'fault') this.#report(error, slot)
    return outcome
  }

  #report(error: unknown, slot: number): void {
    if (this.#told.size >= LIMIT) return
    const [arch, nr] = [this.#slots.getUint32(slot + NOTIF.arch, true), this.#slots.getInt32(slot + NOTIF.nr, true)]
    const message = `Cannot serve ${syscallName(arch, nr) ?? nr}: ${error}`
    if (!this.#told.has(message)) this.#tell(message)
    this.#told.add(message)
  }
}
