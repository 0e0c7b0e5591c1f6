import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { decodeSysinfo, type SystemInfo } from '../../../../src/abi/system.ts'
import type { Container } from '../../../../src/caller/identity/container.ts'
import type { ThreadIdentity } from '../../../../src/caller/identity/thread-identity.ts'
import { INFO_WORDS, SysinfoCache, SysinfoSource } from '../../../../src/engine/facts/sysinfo-cache.ts'
import { bootTime } from '../../../../src/kernel/clock.ts'
import type { Handle } from '../../../../src/kernel/fd.ts'
import type { TimeNamespace } from '../../../../src/kernel/process.ts'

const info = (totalram: number): SystemInfo => ({
  ...{ uptime: 0, loads: [0, 0, 0], procs: 1, totalram, freeram: 0, sharedram: 0, bufferram: 0 },
  ...{ totalswap: 0, freeswap: 0 },
})

function machine() {
  const words = new Int32Array(new SharedArrayBuffer(4 * 3 * INFO_WORDS))
  const looks: number[] = []
  const cache = new SysinfoCache(words)
  const ask = (container: number, now: number, finds = container, by = cache): number => {
    const look = (): SystemInfo => {
      looks.push(container)
      return info(finds)
    }
    const bytes = by.get(container, 64, now, 9, look)
    return decodeSysinfo(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)).totalram
  }
  return { words, looks, cache, ask }
}

test('InfoCache looks once in 100 ms, for all threads', () => {
  const { words, looks, ask } = machine()
  const another = new SysinfoCache(words)
  expect([
    ask(1, 5000, 10),
    ask(1, 5099, 20),
    ask(1, 5099, 20, another),
    ask(1, 5100, 30),
    ask(1, 5150, 40, another),
  ]).toEqual([10, 10, 10, 30, 30])
  expect(looks).toHaveLength(2)
})

test('InfoCache keeps containers apart that are polled in turn', () => {
  const { looks, ask } = machine()
  for (let now = 5000; now < 5100; now += 10) {
    expect(ask(1, now)).toBe(1)
    expect(ask(2, now)).toBe(2)
  }
  expect(looks).toEqual([1, 2])
})

test('InfoCache has the struct of either architecture, each with the uptime of now', () => {
  const { cache } = machine()
  for (const [bits, size] of [
    [64, 112],
    [32, 64],
  ] as const) {
    const bytes = cache.get(1, bits, 5000, 77, () => info(5))
    expect([bytes.length, new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)]).toEqual([size, 77])
  }
})

test('InfoCache forgets a container before another one gets its number', () => {
  const { words, cache, ask } = machine()
  const another = new SysinfoCache(words)
  ask(1, 5000, 10)
  ask(1, 5000, 10, another)
  cache.forget(1)
  expect([ask(1, 5001, 20), ask(1, 5001, 30, another)]).toEqual([20, 20])
})

test('InfoCache goes on when its clock comes round, and when nobody asked for long', () => {
  const { looks, ask } = machine()
  expect([ask(1, 2 ** 32 - 50, 1), ask(1, 2 ** 32 + 40, 2), ask(1, 2 ** 32 + 60, 3), ask(1, 2 ** 33, 4)]).toEqual([
    1, 1, 3, 4,
  ])
  expect(looks).toHaveLength(3)
})

test('SysinfoSource: a slow look at a caller moves no clock', () => {
  const words = new Int32Array(new SharedArrayBuffer(4 * 3 * INFO_WORDS))
  const identity = { searching: () => info(1) } as unknown as ThreadIdentity
  const source = new SysinfoSource(new SysinfoCache(words), identity, {} as Handle)
  const uptimeOf = (container: Partial<Container>, lookMs: number): number => {
    const look = (): number => {
      for (const end = performance.now() + lookMs; performance.now() < end; );
      return 0
    }
    const bytes = source.report(container as Container, 64, { tid: 1 as Tid, bootClockAhead: look })
    return decodeSysinfo(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)).uptime
  }
  uptimeOf({ index: 0, serial: 1, startedMs: bootTime(), time: {} as TimeNamespace }, 80)
  // The kernel rounds up.
  expect(uptimeOf({ index: 1, serial: 2, startedMs: bootTime() - 930 }, 0)).toBe(1)
})
