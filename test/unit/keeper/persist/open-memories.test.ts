import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { openMemory, openRecords } from '../../../../src/keeper/persist/memories.ts'
import type { MemoryName, PersistedState } from '../../../../src/keeper/persist/persisted-state.ts'
import type { Handle } from '../../../../src/kernel/fd.ts'
import { dup, type Fd } from '../../../../src/kernel/fd.ts'
import { map, memfd } from '../../../../src/kernel/shared-memory.ts'
import { JOURNAL_SIZE, SLOTS, Slots, STATE, writeMagic } from '../../../../src/link/journal.ts'
import { formatRecords, isEnded, RecordReader, RecordWriter, recordsSize } from '../../../../src/memories/records.ts'

/** What the service manager keeps, by name. */
function store(kept: { readonly journal?: Fd; readonly records?: Fd }) {
  const stored: string[] = []
  const state = {
    memory: (name: MemoryName) => kept[name as keyof typeof kept],
    keepMemory: (name: MemoryName, _: Handle) => stored.push(name),
  }
  return { state: state as unknown as PersistedState, stored }
}

test('a journal of another layout is replaced by an empty one', () => {
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  writeMagic(map(journal))
  new Slots(map(journal)).take({ listener: 3, container: 4, thread: 5 })
  new Int32Array(map(journal))[12]!++
  const { state, stored } = store({ journal })
  const slots = new Slots(openMemory(state, 'journal').memory)
  expect({ isAnyTaken: slots.isAnyTaken, stored }).toEqual({ isAnyTaken: false, stored: ['journal'] })
})

test('a journal of ours goes on as it is', () => {
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  writeMagic(map(journal))
  new Slots(map(journal)).take({ listener: 3, container: 4, thread: 5 })
  const { state, stored } = store({ journal })
  const { memory } = openMemory(state, 'journal')
  const slots = new Slots(memory)
  expect(slots.all().filter((slot) => slots.state(slot) === STATE.free)).toHaveLength(SLOTS - 1)
  expect(stored).toEqual([])
})

const record = (container: number) => ({
  ...{ container, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'act' as const, errno: 0 },
  ...{ reason: 'done' as const, a: 0, b: 0, microseconds: 1, time: 2 },
})

/** A ring with three records that nobody has read. */
function kept(size: number): { readonly records: Fd; readonly memory: ArrayBuffer } {
  const records = memfd('intercede-records', recordsSize(size))
  const memory = map(records)
  formatRecords(memory)
  const writer = new RecordWriter(memory, () => {})
  for (const number of [1, 2, 3]) writer.write(record(number))
  return { records, memory }
}

function read(ring: ArrayBuffer): number[] {
  const seen: number[] = []
  new RecordReader(ring).drain(({ container }) => seen.push(container))
  return seen
}

test('the ring of the previous keeper goes on, and one of another size takes its records along', () => {
  const same = store({ records: kept(1024).records })
  expect(read(openRecords(same.state, 1024).memory)).toEqual([1, 2, 3])
  expect(same.stored).toEqual([])
  const { records, memory } = kept(1024)
  const other = store({ records: dup(records) })
  expect(read(openRecords(other.state, 4096).memory)).toEqual([1, 2, 3])
  expect(other.stored).toEqual(['records'])
  expect(isEnded(new Int32Array(memory))).toBe(true)
})

test('a ring of another layout is replaced by an empty one', () => {
  const { records, memory } = kept(1024)
  new Int32Array(memory)[48]!++
  const { state, stored } = store({ records })
  const { memory: ring } = openRecords(state, 1024)
  expect({ seen: read(ring), stored }).toEqual({ seen: [], stored: ['records'] })
})
