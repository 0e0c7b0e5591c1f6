import { describe, expect, test } from 'vitest'
import { LxcProxyCall, LxcProxyDeadlines, LxcProxyState } from '../../../src/engine/lxc/lxc-proxy.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { receive, send, socketpair, stampMessages } from '../../../src/kernel/socket.ts'
import { until } from '../../support/host.ts'
import { decodeResponse } from '../../support/seccomp-codecs.ts'

const SECOND = 1000

/** A call forwarded `age` ms ago over `connection`, with the id 7. */
function forwarded(
  connection: Fd,
  age: number,
  isAgeKnown = true,
  atEnd = () => {},
): { readonly call: LxcProxyCall; readonly isOver: () => boolean } {
  const message = Buffer.alloc(136)
  message.writeBigUInt64LE(7n, 32)
  let isOver = false
  const end = (): void => {
    isOver = true
    atEnd()
  }
  const waiting = { connection, listener: connection, fds: [], since: Date.now() - age, isAgeKnown, end }
  return { call: new LxcProxyCall(message, 112, waiting), isOver: () => isOver }
}

describe('ForwardedCall.reply()', () => {
  test.each([
    { what: 'in time', age: 0, isAgeKnown: true, delivered: true, sends: true },
    { what: 'in time, to a call that went away', age: 0, isAgeKnown: true, delivered: false, sends: true },
    { what: 'to a first call that still waited', age: 0, isAgeKnown: false, delivered: true, sends: true },
    { what: 'to a first call that went away', age: 0, isAgeKnown: false, delivered: false, sends: false },
    { what: 'just before the monitor gives up', age: 26 * SECOND, isAgeKnown: true, delivered: true, sends: false },
    { what: 'long after', age: 3600 * SECOND, isAgeKnown: true, delivered: true, sends: false },
  ])(
    'sends nothing that the monitor could take for another reply: $what: $sends',
    ({ age, isAgeKnown, delivered, sends }) => {
      const [ours, theirs] = socketpair()
      const made = forwarded(ours, age, isAgeKnown)
      made.call.reply({ is: 'errno', errno: 17, value: 0n }, delivered)
      const bytes = Buffer.alloc(200)
      expect(receive(theirs, bytes)?.length).toBe(sends ? 136 : 0)
      if (sends) {
        const response = decodeResponse(new DataView(bytes.buffer, bytes.byteOffset + 112))
        expect(response).toEqual({ id: 7n, value: 0n, error: -17, flags: 0 })
      }
      expect(made.isOver()).toBe(true)
      for (const fd of [ours, theirs]) fd[Symbol.dispose]()
    },
  )

  test('ends the call before it, for the next one may come at once, to another thread', () => {
    const [ours, theirs] = socketpair()
    let sentBefore: unknown
    const { call } = forwarded(ours, 0, true, () => {
      sentBefore = receive(theirs, Buffer.alloc(200))
    })
    call.reply({ is: 'act', errno: 0, value: 0n }, true)
    expect(sentBefore).toBeUndefined()
    expect(receive(theirs, Buffer.alloc(200))?.length).toBe(136)
    for (const fd of [ours, theirs]) fd[Symbol.dispose]()
  })

  test('does not wait for a monitor that does not read', () => {
    const [ours, theirs] = socketpair()
    const fill = (): boolean => {
      try {
        send(ours, Buffer.alloc(1024), [], 0x40)
        return true
      } catch {
        return false
      }
    }
    while (fill());
    const made = forwarded(ours, 0)
    made.call.reply({ is: 'act', errno: 0, value: 0n }, true)
    expect(made.isOver()).toBe(true)
    for (const fd of [ours, theirs]) fd[Symbol.dispose]()
  })
})

test('ProxyDeadlines lets go of the connection whose call hangs, and of no other', async () => {
  let now = 0
  const words = new LxcProxyState(new Int32Array(8), () => now)
  const faults: string[] = []
  const deadlines = new LxcProxyDeadlines(words, (message) => faults.push(message))
  const pairs = [socketpair(), socketpair(), socketpair()] as const
  for (const [index, [ours]] of pairs.entries()) deadlines.watch(index, ours.raw)
  words.begin(0, 0)
  now = 10
  words.begin(1, 0)
  now = 21
  const bytes = new Uint8Array(1)
  await until('the first is let go', () => receive(pairs[0][1], bytes)?.length === 0)
  expect([receive(pairs[1][1], bytes), receive(pairs[2][1], bytes)]).toEqual([undefined, undefined])
  expect(faults).toEqual([expect.stringContaining('hangs')])
  for (const [index, pair] of pairs.entries()) {
    deadlines.forget(index)
    for (const fd of pair) fd[Symbol.dispose]()
  }
  expect([0, 1, 2].map((index) => words.has(index))).toEqual([false, false, false])
})

test('receive() says when a message was sent, after stampMessages()', async () => {
  const [ours, theirs] = socketpair()
  stampMessages(ours)
  const before = Date.now()
  send(theirs, Buffer.from('x'), [theirs])
  const after = Date.now()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const message = receive(ours, Buffer.alloc(8))
  expect(message?.sent).toBeGreaterThanOrEqual(before - 1)
  expect(message?.sent).toBeLessThanOrEqual(after + 1)
  expect(message?.fds.length).toBe(1)
  for (const fd of [ours, theirs, ...(message?.fds ?? [])]) fd[Symbol.dispose]()
})
