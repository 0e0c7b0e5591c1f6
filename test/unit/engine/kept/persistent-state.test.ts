import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { STORE_LOCKS } from '../../../../src/caller/programs/bpf-program-store.ts'
import { ENTRIES } from '../../../../src/engine/kept/fs-context-store.ts'
import {
  isPersistent,
  markPersistent,
  PERSISTENT_SIZE,
  PersistentState,
} from '../../../../src/engine/kept/persistent-state.ts'
import { CONTAINERS } from '../../../../src/engine/tables/limits.ts'
import { pipe } from '../../../../src/kernel/pipe.ts'
import { OwnVault } from '../../../support/persistent-world.ts'

const memory = (): ArrayBuffer => {
  const fresh = new ArrayBuffer(PERSISTENT_SIZE)
  markPersistent(fresh)
  return fresh
}
const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count))

/** As an engine begins. */
function engine(shared: ArrayBuffer, vault: OwnVault): PersistentState {
  const lasting = new PersistentState(
    shared,
    { contexts: words(ENTRIES), programs: words(STORE_LOCKS * CONTAINERS) },
    vault,
  )
  lasting.restore(vault.legacy())
  return lasting
}

function withContext(lasting: PersistentState, container: number): void {
  const { read, write } = pipe()
  write[Symbol.dispose]()
  expect(lasting.contexts.addContext(container, read, 'ext4', 1 as Tid)).toBeDefined()
}

test('what a container has got is there for the next engine, and not for a container that has its number then', () => {
  const [shared, vault] = [memory(), new OwnVault()]
  const first = engine(shared, vault)
  first.admit(3, 77)
  withContext(first, 3)
  const second = engine(shared, vault)
  second.admit(3, 77)
  expect(second.contexts.has(3)).toBe(true)
  const third = engine(shared, vault)
  third.admit(3, 78)
  expect(third.contexts.has(3)).toBe(false)
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
    withContext(first, container)
  }
  const second = engine(shared, vault)
  second.keepOnly(new Set([4]))
  expect([second.contexts.has(3), second.contexts.has(4)]).toEqual([false, true])
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

test('memory of another layout is not used', () => {
  expect(isPersistent(memory())).toBe(true)
  expect(isPersistent(new ArrayBuffer(PERSISTENT_SIZE))).toBe(false)
  expect(isPersistent(memory().slice(4))).toBe(false)
})
