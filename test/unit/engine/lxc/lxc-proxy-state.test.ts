import { describe, expect, test } from 'vitest'
import { LxcProxyState } from '../../../../src/engine/lxc/lxc-proxy.ts'

describe('ProxyWords', () => {
  test('tell a connection from a listener, and for how long a monitor waits', () => {
    let now = 100
    const words = new LxcProxyState(new Int32Array(4), () => now)
    expect([words.has(1), words.waiting(1)]).toEqual([false, 0])
    words.open(1)
    expect([words.has(1), words.isFresh(1), words.waiting(1)]).toEqual([true, true, 0])
    words.begin(1, 3)
    now = 110
    expect([words.isFresh(1), words.isServing(1), words.waiting(1)]).toEqual([false, true, 13])
    words.end(1)
    expect([words.has(1), words.isFresh(1), words.isServing(1), words.waiting(1)]).toEqual([true, false, false, 0])
    words.close(1)
    expect([words.has(1), words.has(0), words.has(2)]).toEqual([false, false, false])
  })

  test('a call that is older than the engine', () => {
    const words = new LxcProxyState(new Int32Array(1), () => 2)
    words.begin(0, 10)
    expect(words.waiting(0)).toBe(2)
  })
})
