import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { EarlyHandovers } from '../../../../src/keeper/sockets/early-handovers.ts'
import type { Register } from '../../../../src/keeper/sockets/sockets.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import type { InitLook } from '../../../../src/runtimes/inspect.ts'

const handover = (id: string, creating: boolean) => ({
  id,
  creating,
  pid: 7,
  bundle: '',
  annotations: {},
  metadata: '',
})

let taken: string[]
let closed: number
let refused: string[]
/** Ends the looks that are under way. */
let seen: (() => void)[]
const fd = (): Fd => ({ raw: -1, [Symbol.dispose]: () => void closed++ }) as unknown as Fd

/** @param others is anybody else connected? */
function make(others: boolean, fails = false): EarlyHandovers {
  const register: Register = ({ id, creating }) => {
    taken.push(`${creating ? 'init' : 'exec'} ${id}`)
    if (fails && !creating) throw new Error('Cannot serve it')
  }
  const isKnown = ({ id }: { readonly id: string }): boolean => taken.includes(`init ${id}`)
  const look = async (): Promise<InitLook> => {
    await new Promise<void>((resolve) => seen.push(resolve))
    return { [Symbol.dispose]() {} } as InitLook
  }
  const refuse = (message: string): unknown => refused.push(message)
  return new EarlyHandovers(register, { isKnown, othersWait: () => others, look, refuse })
}

async function endLooks(): Promise<void> {
  for (const end of seen.splice(0)) end()
  await vi.advanceTimersByTimeAsync(0)
}

beforeEach(() => {
  vi.useFakeTimers()
  taken = []
  refused = []
  seen = []
  closed = 0
})
afterEach(() => vi.useRealTimers())

test('EarlyHandovers lets an exec wait for the init of its container, and for no other', async () => {
  const { register } = make(true)
  register(handover('a', false), fd(), 'listener')
  register(handover('b', true), fd(), 'listener')
  await endLooks()
  expect(taken).toEqual(['init b'])
  register(handover('a', true), fd(), 'listener')
  await endLooks()
  expect(taken).toEqual(['init b', 'init a', 'exec a'])
  register(handover('a', false), fd(), 'listener')
  expect(taken).toEqual(['init b', 'init a', 'exec a', 'exec a'])
  vi.runAllTimers()
  expect(taken).toHaveLength(4)
})

test('EarlyHandovers lets an exec wait while an init of its id is looked at, even if another is known', async () => {
  const { register } = make(false)
  register(handover('a', true), fd(), 'listener')
  register(handover('a', false), fd(), 'listener')
  expect(taken).toEqual([])
  await endLooks()
  expect(taken).toEqual(['init a', 'exec a'])
  register(handover('a', true), fd(), 'listener')
  register(handover('a', false), fd(), 'listener')
  expect(taken).toHaveLength(2)
  await endLooks()
  expect(taken).toEqual(['init a', 'exec a', 'init a', 'exec a'])
})

test('EarlyHandovers takes an exec at once where nobody could be its init, and after a while where that does not come', () => {
  make(false).register(handover('a', false), fd(), 'listener')
  expect(taken).toEqual(['exec a'])
  make(true, true).register(handover('b', false), fd(), 'listener')
  expect(taken).toEqual(['exec a'])
  vi.runAllTimers()
  expect(taken).toEqual(['exec a', 'exec b'])
  expect(refused).toEqual(['Cannot serve it'])
})

test('EarlyHandovers closes what waits when it ends', async () => {
  const early = make(true)
  early.register(handover('a', false), fd(), 'listener')
  early.register(handover('b', true), fd(), 'listener')
  expect(early.isEmpty).toBe(false)
  early.close()
  vi.runAllTimers()
  await endLooks()
  expect({ taken, closed, isEmpty: early.isEmpty }).toEqual({ taken: [], closed: 2, isEmpty: true })
})
