import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { STORE_LOCKS } from '../../../../src/caller/programs/bpf-program-store.ts'
import type { Context } from '../../../../src/calls/context.ts'
import { PersistentState } from '../../../../src/engine/kept/persistent-state.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import { pipe } from '../../../../src/kernel/fd.ts'
import { CONTAINERS } from '../../../../src/link/limits.ts'
import { ENTRIES, isPersistent, markPersistent, PERSISTENT_SIZE } from '../../../../src/link/persistent-layout.ts'
import { OwnVault } from '../../../support/persistent-world.ts'

const memory = (): ArrayBuffer => {
  const fresh = new ArrayBuffer(PERSISTENT_SIZE)
  markPersistent(fresh)
  return fresh
}
const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count))

/** As an engine begins. */
const THIRD = { index: 3, serial: 77 }

function engine(shared: ArrayBuffer, vault: OwnVault): PersistentState {
  const lasting = new PersistentState(
    shared,
    { contexts: words(ENTRIES), programs: words(STORE_LOCKS * CONTAINERS) },
    vault,
  )
  lasting.restore(vault.legacy())
  return lasting
}

function withContext(lasting: PersistentState, container: { index: number; serial: number }): void {
  const { read, write } = pipe()
  write[Symbol.dispose]()
  expect(lasting.contexts.addContext(container, read, 'ext4', 1 as Tid)).toBeDefined()
}

test('what a container has got is there for the next engine, and not for a container that has its number then', () => {
  const [shared, vault] = [memory(), new OwnVault()]
  const first = engine(shared, vault)
  first.admit(3, 77)
  withContext(first, THIRD)
  const second = engine(shared, vault)
  second.admit(3, 77)
  expect(second.contexts.has(THIRD)).toBe(true)
  const third = engine(shared, vault)
  third.admit(3, 78)
  expect([THIRD, { index: 3, serial: 78 }].map((each) => third.contexts.has(each))).toEqual([false, false])
  expect(vault.places).toEqual([])
})

test('a call that ends after its container leaves nothing to the next one with that number', () => {
  const vault = new OwnVault()
  const lasting = engine(memory(), vault)
  lasting.admit(3, 77)
  lasting.forget(3)
  lasting.admit(3, 78)
  withContext(lasting, THIRD)
  const next = { index: 3, serial: 78 }
  expect(lasting.contexts.has(next)).toBe(false)
  expect(lasting.contexts.findContext(next, () => true)).toBeUndefined()
  lasting.contexts.tidy(undefined, () => false)
  lasting.contexts.forget(77)
  expect(vault.places).toEqual([])
})

test('nothing stays of a container that has ended while there was no engine', () => {
  const [shared, vault] = [memory(), new OwnVault()]
  const first = engine(shared, vault)
  for (const [container, serial] of [
    [3, 77],
    [4, 78],
  ] as const) {
    first.admit(container, serial)
    withContext(first, { index: container, serial })
  }
  const second = engine(shared, vault)
  second.keepOnly(new Set([4]))
  expect([THIRD, { index: 4, serial: 78 }].map((each) => second.contexts.has(each))).toEqual([false, true])
  expect(vault.places).toHaveLength(1)
  second.forget(4)
})

test('what was kept for nothing is closed and dropped', () => {
  const vault = new OwnVault()
  const { read, write } = pipe()
  write[Symbol.dispose]()
  using fd = read
  vault.keep(CONTAINERS + 1, fd)
  engine(memory(), vault)
  expect(vault.places).toEqual([])
})

/** A descriptor of its own. */
function descriptor(): Fd {
  const { read, write } = pipe()
  write[Symbol.dispose]()
  return read
}

test('the number of the layout is changed with the layout', () => {
  const [shared, vault] = [memory(), new OwnVault()]
  const it = engine(shared, vault)
  it.admit(3, 77)
  it.contexts.addContext(THIRD, descriptor(), 'ext4', 9 as Tid)
  const program = { id: 5, loaded: 0x6_0000_0007n, inode: 8n, program: descriptor(), standIn: descriptor() }
  it.programs.add(3, program, { program: () => true, link: () => true }, () => {})
  it.made.add(3, 0x6_0000_0007n)
  // An engine of another build reads these words, and finds the descriptors by their places: if one of them lies elsewhere now,
  // or means something else, the number must be another one, here and in persistent-layout.ts.
  const words = new Int32Array(shared)
  const [ENTRY, PROGRAM, MADE] = [1 + CONTAINERS, 269_057 + 2 * ENTRIES, 1_314_948 + 2 * ENTRIES]
  const [born, bytes] = [ENTRY + 5, ENTRY + 13 * ENTRIES]
  const kept = [ENTRY + 2, PROGRAM + 5, PROGRAM + 6]
  expect(vault.places).toEqual(kept)
  const others = [...words.entries()].filter(([at, word]) => word !== 0 && at !== born && !kept.includes(at))
  expect(others).toEqual([
    ...[
      [0, 4],
      [1 + 3, 77],
    ],
    ...[
      [ENTRY, 77],
      [ENTRY + 3, -1],
      [ENTRY + 4, -1],
      [ENTRY + 6, 8],
      [ENTRY + 8, 9],
      [ENTRY + 9, -1],
      [ENTRY + 10, 1],
      [ENTRY + 11, -1],
      [ENTRY + 12, -1],
      [bytes, Buffer.from([4, 0, 0xff, 0xff]).readInt32LE()],
      [bytes + 1, Buffer.from('ext4').readInt32LE()],
    ],
    ...[
      [PROGRAM, 1],
      [PROGRAM + 1, 5],
      [PROGRAM + 2, 7],
      [PROGRAM + 3, 6],
      [PROGRAM + 4, 8],
    ],
    ...[
      [MADE, 1],
      [MADE + 1, 7],
      [MADE + 2, 6],
    ],
  ])
  expect(PERSISTENT_SIZE).toBe(4 * (266_497 + CONTAINERS * (1024 + 129)))
  it.forget(3)
  expect(vault.places).toEqual([])
})

test('what an engine had locked when it ended is free for the next one', () => {
  const [shared, vault] = [memory(), new OwnVault()]
  const first = engine(shared, vault)
  first.admit(3, 77)
  withContext(first, THIRD)
  const find = (it: PersistentState) => it.contexts.findContext(THIRD, () => true)
  const wait = (): never => {
    throw new Error('It waits')
  }
  using held = find(first) as Context
  expect([held.type, find(first)]).toEqual(['ext4', 'busy'])
  first.programs.loading(3, wait, () => {
    expect(() => first.programs.loading(3, wait, () => {})).toThrow('It waits')
    const second = engine(shared, vault)
    second.programs.loading(3, wait, () => {})
    using again = find(second) as Context
    expect(again.type).toBe('ext4')
    again.endAfterCall()
  })
  expect(vault.places).toEqual([])
})

test('memory of another layout is not used', () => {
  expect(isPersistent(memory())).toBe(true)
  expect(isPersistent(new ArrayBuffer(PERSISTENT_SIZE))).toBe(false)
  expect(isPersistent(memory().slice(4))).toBe(false)
})
