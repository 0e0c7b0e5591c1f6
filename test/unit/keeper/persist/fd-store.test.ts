import { fstatSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { KeeperFdTable } from '../../../../src/keeper/persist/fd-store.ts'
import { PersistedState } from '../../../../src/keeper/persist/persisted-state.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import { pipe } from '../../../../src/kernel/fd.ts'

const opened = (): number => readdirSync('/proc/self/fd').length

function descriptor(): Fd {
  const { read, write } = pipe()
  write[Symbol.dispose]()
  return read
}

function handedOn(vault: KeeperFdTable): readonly number[] {
  const places: number[] = []
  vault.handOn((message, fds = []) => {
    if (message.type !== 'kept') throw new Error(message.type)
    expect(fds.every(({ raw }) => raw > 0)).toBe(true)
    expect(fds).toHaveLength(message.places.length)
    places.push(...message.places)
  })
  return places
}

test('a container keeps so many descriptors and no more, and does not take them from others', () => {
  const before = opened()
  const vault = new KeeperFdTable(new PersistedState(undefined))
  for (let place = 0; place < 100; place++) vault.keep(place, 1, descriptor())
  vault.keep(500, 2, descriptor())
  expect(handedOn(vault)).toEqual([...Array.from({ length: 64 }, (_, place) => place), 500])
  // One that comes to a place takes the place of the one before.
  vault.keep(5, 1, descriptor())
  expect(handedOn(vault)).toHaveLength(65)
  expect(opened()).toBe(before + 65)
  vault.close()
  expect(opened()).toBe(before)
})

test('what is dropped is closed before that is said', () => {
  const vault = new KeeperFdTable(new PersistedState(undefined))
  const kept = descriptor()
  const { raw } = kept
  vault.keep(7, 1, kept)
  const isOpen = (): boolean => {
    try {
      return fstatSync(raw).isFIFO()
    } catch {
      return false
    }
  }
  let order: readonly boolean[] = []
  const done = { [Symbol.dispose]: () => (order = [...order, isOpen()]) } as unknown as Fd
  expect(isOpen()).toBe(true)
  vault.drop([7, 8], done)
  expect(order).toEqual([false])
  expect(handedOn(vault)).toEqual([])
})
