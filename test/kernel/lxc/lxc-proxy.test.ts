import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { KeeperEvent } from '../../../src/keeper/process/events.ts'
import { notifIdValid } from '../../../src/kernel/seccomp.ts'
import { accept, connectUnix, listenUnix, receive, send, socketpair } from '../../../src/kernel/socket.ts'
import { execute, Host, until } from '../../support/host.ts'
import { descriptorsOf } from '../../support/hostile.ts'
import { comes, type Lies, Monitor, type Reply } from '../../support/monitor.ts'
import { decodeNotification } from '../../support/seccomp-codecs.ts'
import { SLOWNESS } from '../../support/slowness.ts'

let host: Host
let monitors: Monitor[] = []
let serial = 0
beforeAll(async () => {
  host = await Host.start()
})
afterEach(async () => {
  for (const monitor of monitors) await monitor.end()
  monitors = []
})
afterAll(() => host.close())

async function monitor(options?: readonly string[]): Promise<Monitor> {
  const made = await Monitor.start(host, options)
  monitors.push(made)
  return made
}

/** A new name in a directory that the container may write to. */
const place = (): string => join(host.directory, `n${serial++}`)
const null_ = (path = place()): readonly string[] => ['mknod', path, '020666', '1', '3']
const mem = (): readonly string[] => ['mknod', place(), '020666', '1', '1']
const eventsOf = (type: KeeperEvent['type'], from = 0): readonly KeeperEvent[] =>
  host.events.slice(from).filter((event) => event.type === type)
const refusals = (from: number): readonly string[] =>
  host.events.slice(from).flatMap((event) => ('message' in event ? [event.message] : []))

/** Descriptors that messages bring, in the engine and in the daemon, which is this process. */
const held = (): number =>
  [host.enginePid, process.pid].flatMap(descriptorsOf).filter((name) => /^socket|seccomp|^\/proc\/\d/.test(name)).length

/** The response of a reply, for comparison; the id is that of the notification in front of it. */
function responseOf(reply: Reply): unknown {
  if (typeof reply === 'string') return reply
  const { id, ...rest } = reply.response
  expect(id).toBe(reply.bytes.readBigUInt64LE(32))
  return rest
}

describe('the reply to a monitor of LXC has 136 bytes, and comes after the answer to the caller', () => {
  test.each([
    { what: 'a call that is done', call: null_, returned: 'ok', response: { value: 0n, error: 0, flags: 0 } },
    { what: 'a call that is passed on', call: mem, returned: 'EPERM', response: { value: 0n, error: 0, flags: 1 } },
    {
      what: 'a call that fails',
      call: () => null_(host.directory),
      returned: 'EEXIST',
      response: { value: 0n, error: -17, flags: 0 },
    },
  ])('$what', async ({ call, returned, response }) => {
    const lxc = await monitor()
    lxc.ask(...call())
    const { reply, wasFirst } = await lxc.serve()
    expect(typeof reply === 'string' ? reply : reply.bytes.length).toBe(136)
    expect(responseOf(reply)).toEqual(response)
    expect(wasFirst).toBe(false)
    expect(await lxc.returns(1)).toBe(returned)
  })
})

/** Ways to break the protocol, each with what the refusal says. */
interface Wrong {
  readonly what: string
  readonly lies?: Lies
  /** Of the message. */
  readonly cut?: (message: Buffer) => Uint8Array
  /** Descriptors instead of those of LXC. */
  readonly fds?: number
  readonly says: RegExp
}
const WRONG: readonly Wrong[] = [
  { what: 'half a message', cut: (message) => message.subarray(0, 60), says: /60 bytes and says 136/ },
  { what: 'half a header', cut: (message) => message.subarray(0, 20), says: /20 bytes are too few/ },
  {
    what: 'a byte too many',
    cut: (message) => Buffer.concat([message, Buffer.alloc(1)]),
    says: /137 bytes and says 136/,
  },
  { what: 'far too much', cut: (message) => Buffer.concat([message, Buffer.alloc(60_000)]), says: /too many/ },
  { what: 'a notification that is too short', lies: { notifSize: 79 }, says: /79 is no size of seccomp_notif/ },
  { what: 'a notification that is too long', lies: { notifSize: 65535 }, says: /65535 is no size/ },
  { what: 'a response that is too short', lies: { respSize: 0 }, says: /0 is no size of seccomp_notif_resp/ },
  { what: 'a cookie that did not come', lies: { cookieLength: 5n }, says: /136 bytes and says 141/ },
  { what: 'a cookie without end', lies: { cookieLength: 2n ** 64n - 1n }, says: /says 18446744073709551751/ },
  { what: 'no descriptors', fds: 0, says: /descriptors are not a task, its memory and a listener/ },
  { what: 'too few descriptors', fds: 2, says: /descriptors are not/ },
  { what: 'other descriptors', fds: 3, says: /descriptors are not/ },
  { what: 'too many descriptors', fds: 200, says: /descriptors are not/ },
]

describe.each([
  { when: 'with its first message', first: true },
  { when: 'later on', first: false },
])('a monitor that breaks the protocol $when loses its connection, and nothing leaks', ({ first }) => {
  test.each(WRONG)('$what', async ({ lies, cut = (message) => message, fds, says }) => {
    const lxc = await monitor()
    if (!first) {
      lxc.ask(...null_())
      await lxc.serve()
      await lxc.returns(1)
    }
    const before = held()
    const from = host.events.length
    lxc.ask(...null_())
    const notification = await lxc.receive()
    const message = cut(lxc.message(notification, '', lies))
    if (fds === undefined) lxc.forward(message, notification)
    else {
      const pairs = Array.from({ length: fds }, () => socketpair())
      send(
        lxc.connection,
        message,
        pairs.map(([fd]) => fd),
      )
      for (const fd of pairs.flat()) fd[Symbol.dispose]()
    }
    expect(await lxc.reply()).toBe('closed')
    await until('it is said', () => refusals(from).some((refusal) => says.test(refusal)))

    lxc.reconnect()
    lxc.forward(lxc.message(notification), notification)
    const again = responseOf(await lxc.reply())
    // It failed once in a thousand: what the daemon said would tell why.
    expect(again, inspect(host.events.slice(from))).toEqual({ value: 0n, error: 0, flags: 0 })
    expect(await lxc.returns(first ? 1 : 2)).toBe('ok')
    // Of the container before, something may have been left at first.
    if (!first) await until('nothing has leaked', () => held() <= before)
  })

  test('an empty message, which cannot be told from the end', async () => {
    const lxc = await monitor()
    if (!first) {
      lxc.ask(...null_())
      await lxc.serve()
    }
    send(lxc.connection, new Uint8Array())
    expect(await lxc.reply()).toBe('closed')
  })
})

test('structs of a later kernel: the sizes in the message count', async () => {
  const lxc = await monitor()
  lxc.ask(...null_())
  const notification = await lxc.receive()
  const longer = Buffer.concat([notification, Buffer.alloc(16)])
  const message = Buffer.concat([lxc.message(longer, '', { notifSize: 96, respSize: 32 }), Buffer.alloc(8)])
  lxc.forward(message, notification)
  const reply = await lxc.reply()
  if (typeof reply === 'string') throw new Error(reply)
  expect(reply.bytes.length).toBe(32 + 96 + 32)
  expect(reply.bytes.subarray(128, 136)).toEqual(Buffer.from(notification.subarray(0, 8)))
  expect(await lxc.returns(1)).toBe('ok')
})

describe('a container of LXC', () => {
  test('is registered by the first message of a connection, known again by its init, and ends with the connection', async () => {
    const lxc = await monitor()
    const from = host.events.length
    for (const count of [1, 2]) {
      lxc.ask(...null_())
      await lxc.serve('a=b;c')
      expect(await lxc.returns(count)).toBe('ok')
    }
    expect(eventsOf('registered', from)).toMatchObject([{ handover: { pid: lxc.init, metadata: 'a=b\nc' } }])
    const old = lxc.connection
    lxc.connection = connectUnix(host.lxcSocket, 'packet')
    lxc.ask(...null_())
    await lxc.serve()
    expect(await lxc.returns(3)).toBe('ok')
    expect(eventsOf('joined', from)).toMatchObject([{ handover: { pid: lxc.init } }])
    old[Symbol.dispose]()
    lxc.reconnect()
    await until('the container has ended', () => eventsOf('ended', from).length === 1)
  })

  test('is served beside other containers, each over its own connection', async () => {
    const all = await Promise.all([monitor(), monitor(), monitor()])
    for (let count = 1; count <= 20; count++) {
      for (const lxc of all) lxc.ask(...null_())
      await Promise.all(all.map((lxc) => lxc.serve()))
      expect(await Promise.all(all.map((lxc) => lxc.returns(count)))).toEqual(['ok', 'ok', 'ok'])
    }
  })

  test.each([
    { what: 'no user namespace', options: ['--pidns'], call: mem, returned: 'ok', reason: 'hostCapability' },
    {
      what: 'the pid namespace of the host',
      options: ['--userns', '200000:65536'],
      call: null_,
      returned: 'EPERM',
      reason: 'unclearUserns',
    },
  ])('with $what gets nothing', async ({ options, call, returned, reason }) => {
    const lxc = await monitor(options)
    lxc.ask(...call())
    expect(responseOf((await lxc.serve()).reply)).toEqual({ value: 0n, error: 0, flags: 1 })
    expect(await lxc.returns(1)).toBe(returned)
    await host.settle(host.records.length)
    expect(host.records.at(-1)).toMatchObject({ reason })
  })

  test('whose monitor is in another pid namespace gets nothing', async () => {
    const lxc = await monitor()
    const path = join(host.directory, 'elsewhere.sock')
    using socket = listenUnix(path)
    const script = `import socket, sys
there = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
there.connect("${host.lxcSocket}")
here = socket.socket(socket.AF_UNIX)
here.connect("${path}")
socket.send_fds(here, [b"x"], [there.fileno()])
sys.stdin.read()`
    const elsewhere = spawn('unshare', ['--pid', '--fork', 'python3', '-c', script], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    try {
      using connection = await comes('a connection', () => accept(socket))
      const { fds } = await comes('its descriptor', () => receive(connection, new Uint8Array(1)))
      lxc.connection[Symbol.dispose]()
      lxc.connection = fds[0]!
      lxc.ask(...null_())
      expect(responseOf((await lxc.serve()).reply)).toEqual({ value: 0n, error: 0, flags: 1 })
      expect(await lxc.returns(1)).toBe('EPERM')
      await until('the record comes', () => {
        host.drain()
        return host.records.at(-1)?.reason === 'invisibleCaller'
      })
      // Its number is another process's here.
      expect(host.records.at(-1)).not.toHaveProperty('comm')
    } finally {
      elsewhere.stdin.end()
      await once(elsewhere, 'exit')
    }
  })

  test('whose init does not exist is refused', async () => {
    const lxc = await monitor()
    const from = host.events.length
    lxc.ask(...null_())
    const notification = await lxc.receive()
    lxc.forward(lxc.message(notification, '', { init: 0x7fff_fff0 }), notification)
    expect(await lxc.reply()).toBe('closed')
    expect(refusals(from)).toMatchObject([expect.stringContaining('there is no process 2147483632')])
  })
})

test('a monitor of LXC gets its reply also to a call that went away, for it waits', async () => {
  const lxc = await monitor()
  lxc.ask(...null_())
  await lxc.serve()
  await lxc.returns(1)
  lxc.ask(...null_())
  const notification = await lxc.receive()
  const message = lxc.message(notification)
  host.drain()
  const before = host.records.length
  process.kill(decodeNotification(new DataView(notification.buffer)).tid, 'SIGKILL')
  await until('the call goes away', () => !notifIdValid(lxc.listener.raw, notification.subarray(0, 8)))
  send(lxc.connection, message, [lxc.listener, lxc.listener, lxc.listener])
  expect(await lxc.reply()).toMatchObject({ response: { flags: 1 } })
  await host.settle(before)
  expect(host.records.at(-1)).toMatchObject({ verdict: 'gone' })
})

test('500 silent connections to the socket of LXC do not keep a real one waiting', async () => {
  const script = `import socket, sys
all = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(500)]
for s in all: s.connect("${host.lxcSocket}")
print("connected", flush=True)
sys.stdin.read()`
  const silent = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(silent.stdout, 'data')
  const lxc = await monitor()
  const start = performance.now()
  lxc.ask(...null_())
  await lxc.serve()
  expect(await lxc.returns(1)).toBe('ok')
  expect(performance.now() - start).toBeLessThan(1000 * SLOWNESS)
  silent.stdin.end()
  await once(silent, 'exit')
})

test('a monitor whose container ended without a call goes away without a word', async () => {
  const from = host.events.length
  connectUnix(host.lxcSocket, 'packet')[Symbol.dispose]()
  const lxc = await monitor()
  lxc.ask(...null_())
  await lxc.serve()
  expect(refusals(from)).toEqual([])
})

test('only root may connect to the socket of LXC, whatever its mode', async () => {
  const socket = 'socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)'
  const script = `import socket; s=${socket}; s.connect("${host.lxcSocket}"); print(s.recv(1))`
  const user = ['--reuid', '1234', '--clear-groups', '/usr/bin/python3', '-c', script]
  expect((await execute('setpriv', user)).stderr).toContain('PermissionError')
  const from = host.events.length
  chmodSync(host.lxcSocket, 0o666)
  try {
    expect((await execute('setpriv', user)).stdout).toBe("b''\n")
  } finally {
    chmodSync(host.lxcSocket, 0o600)
  }
  expect(refusals(from)).toEqual([expect.stringContaining('only root may hand over a listener, not user 1234')])
})

test('a daemon that ends lets the connection go; its successor serves the next call', async () => {
  const first = await Host.start()
  const lxc = await Monitor.start(first)
  monitors.push(lxc)
  lxc.ask(...null_())
  await lxc.serve()
  expect(await lxc.returns(1)).toBe('ok')
  first.close()
  expect(await lxc.reply()).toBe('closed')
  lxc.reconnect(host.lxcSocket)
  lxc.ask(...null_())
  await lxc.serve()
  expect(await lxc.returns(2)).toBe('ok')
})
