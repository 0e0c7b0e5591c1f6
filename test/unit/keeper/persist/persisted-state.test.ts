import { expect, test } from 'vitest'
import { type KeptContainer, PersistedState } from '../../../../src/keeper/persist/persisted-state.ts'
import type { ServiceManager } from '../../../../src/keeper/process/service-manager.ts'
import { dup, type Fd, type Handle } from '../../../../src/kernel/fd.ts'
import { memfd } from '../../../../src/kernel/shared-memory.ts'

/** A service manager that keeps descriptors in the order in which it gets them, of which only the first `most` reach it. */
class Store {
  readonly messages: string[] = []
  readonly #kept: { readonly name: string; readonly fd: Fd }[] = []

  store(name: string, fd: Handle): void {
    this.messages.push(name)
    this.#kept.push({ name, fd: dup(fd) })
  }

  remove(name: string): void {
    this.messages.push(`-${name}`)
  }

  /** What the next process gets if the last one was killed after so many messages. */
  next(messages: number): { readonly state: PersistedState; readonly removed: readonly string[] } {
    const next = new Store()
    const inherited = this.#kept.slice(0, messages).map(({ name, fd }) => ({ name, fd: dup(fd) }))
    const state = new PersistedState(Object.assign(next, { inherited }) as unknown as ServiceManager)
    return { state, removed: next.messages }
  }
}

const names = ['pidns', 'userns', 'cgroup'] as const
const container = {
  ...{ index: 5, serial: 77, handover: {}, settings: new Map(), set: [] },
  init: { pid: 1, handles: Object.fromEntries(names.map((name) => [name, memfd(name, 1)])) },
} as unknown as KeptContainer

test('a container is stored as a whole, or the next keeper leaves nothing of it in the store', () => {
  const store = new Store()
  new PersistedState(store as unknown as ServiceManager).keepContainer(container)
  const all = ['c5.0', 'c5.1', 'c5.2', 'c5']
  expect(store.messages).toEqual(all)
  for (let messages = 0; messages < all.length; messages++) {
    const { state, removed } = store.next(messages)
    expect(state.containers(() => {})).toEqual([])
    state.close()
    expect(removed).toEqual(all.slice(0, messages).map((name) => `-${name}`))
  }
  const { state } = store.next(all.length)
  expect(state.containers(() => {})).toMatchObject([{ index: 5, serial: 77 }])
})
