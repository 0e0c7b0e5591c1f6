import { expect, test } from 'vitest'
import { decodeSysinfo, type SystemInfo } from '../../../../src/abi/system.ts'
import { INFO_WORDS, SysinfoCache } from '../../../../src/engine/facts/sysinfo-cache.ts'

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
