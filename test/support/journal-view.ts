// Reads the journal of the keeper of this process: for tests that end an engine in a certain state of a call.

import { readdirSync, readlinkSync } from 'node:fs'
import { SECCOMP_NOTIF_SIZE } from '../../src/abi/seccomp.ts'
import { Fd } from '../../src/kernel/fd.ts'
import { map } from '../../src/kernel/shared-memory.ts'
import { Slots, STATE } from '../../src/link/journal.ts'

const names = Object.entries(STATE).map(([name, number]): [number, string] => [number, name])
const NAME = new Map(names)

/** The journal of the keeper of this process, seen from outside. */
export class JournalView {
  readonly #slots: Slots

  constructor() {
    const isJournal = (fd: string): boolean => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).includes('intercede-journal')
      } catch {
        return false
      }
    }
    const fd = readdirSync('/proc/self/fd').findLast(isJournal)
    if (fd === undefined) throw new Error('This process has no journal')
    this.#slots = new Slots(map(new Fd(Number(fd))))
  }

  /** The states of the calls in flight. */
  states(): string[] {
    const used = this.#slots.all().filter((slot) => this.#slots.state(slot) !== STATE.free)
    return used.map((slot) => this.#nameOf(slot))
  }

  /** A slot that is being received into holds a call only if the kernel has written one. */
  #nameOf(slot: number): string {
    const name = NAME.get(this.#slots.state(slot))!
    const bytes = new Uint8Array(this.#slots.view.buffer, slot, SECCOMP_NOTIF_SIZE)
    return name === 'receiving' && bytes.every((byte) => byte === 0) ? 'waiting' : name
  }
}
