// Speaks the protocol of LXC as its monitor does, or breaks it: for tests of lxc.sock.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../src/abi/fcntl.ts'
import { PROXY_NOTIF } from '../../src/abi/lxc-proxy.ts'
import type { Response } from '../../src/abi/seccomp.ts'
import { isErrno } from '../../src/kernel/error.ts'
import type { Fd } from '../../src/kernel/fd.ts'
import { openat } from '../../src/kernel/files.ts'
import { notifRecv, notifSend } from '../../src/kernel/seccomp.ts'
import { accept, connectUnix, listenUnix, type Message, receive, send, waitReadable } from '../../src/kernel/socket.ts'
import { OciConnection } from '../../src/runtimes/oci.ts'
import { fixture } from './fixtures.ts'
import { type Host, USERNS, until } from './host.ts'
import { decodeNotification, decodeResponse } from './seccomp-codecs.ts'

let serial = 0

/** Waits until `look` finds something. */
export async function comes<T>(what: string, look: () => T | undefined): Promise<T> {
  let found: T | undefined
  await until(`${what} comes`, () => {
    found ??= look()
    return found !== undefined
  })
  return found!
}

/** Where a monitor connects, and has a directory for its own socket. */
type Daemon = Pick<Host, 'directory' | 'lxcSocket'>

/** What of the message a hostile monitor says otherwise. */
export interface Lies {
  readonly notifSize?: number
  readonly respSize?: number
  readonly cookieLength?: bigint
  readonly init?: number
}

/** What came from the daemon within a while; `closed` if it let go of the connection. */
export type Reply = { readonly bytes: Buffer; readonly response: Response } | 'closed' | 'nothing'

/**
 * What LXC does for a container, by a client of our own, which can do it wrong: it has the listener, receives the calls and
 * forwards them to the daemon's socket.
 */
export class Monitor {
  readonly init: number
  readonly listener: Fd
  connection: Fd
  #socket: string
  #child: ChildProcessWithoutNullStreams | undefined
  #said = ''

  private constructor(socket: string, init: number, listener: Fd) {
    this.#socket = socket
    this.init = init
    this.listener = listener
    this.connection = connectUnix(socket, 'packet')
  }

  /** Starts a container of which nobody but this monitor knows. @param options of the fixture `filtered` */
  static async start(host: Daemon, options: readonly string[] = ['--userns', USERNS, '--pidns']): Promise<Monitor> {
    const script = `while read -r line; do ${fixture('caller')} $line; done`
    let child: ChildProcessWithoutNullStreams | undefined
    const monitor = await Monitor.over(host, async (path) => {
      const command = [...options, '--await-agent', '--no-killable', '--', 'sh', '-c', script]
      child = spawn(fixture('filtered'), [path, ...command])
    })
    monitor.#child = child
    child?.stdout.on('data', (data) => {
      monitor.#said += data
    })
    return monitor
  }

  /** @param start starts a container that hands its listener over at the socket that it is given */
  static async over(host: Daemon, start: (socket: string) => Promise<void>): Promise<Monitor> {
    const path = join(host.directory, `monitor${serial++}.sock`)
    using socket = listenUnix(path)
    const started = start(path)
    using connection = new OciConnection(await comes('a hand-over', () => accept(socket)))
    const { handover, listener } = await comes('the listener', () => connection.read())
    connection[Symbol.dispose]()
    await started
    return new Monitor(host.lxcSocket, handover.pid, listener)
  }

  /** Makes a call in the container, with the arguments of the fixture `caller`. */
  ask(...call: readonly string[]): void {
    this.#child!.stdin.write(`${call.join(' ')}\n`)
  }

  /** What the calls returned so far: "ok" or the name of the errno. */
  get returned(): readonly string[] {
    return this.#said
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { ok?: true; errno?: string })
      .map(({ ok, errno }) => (ok ? 'ok' : errno!))
  }

  async returns(count = this.returned.length + 1): Promise<string> {
    await until(`call ${count} returns`, () => this.returned.length >= count)
    return this.returned[count - 1]!
  }

  /** Receives the next call of the container, as LXC does. */
  async receive(): Promise<Uint8Array> {
    await until('the container makes a call', () => waitReadable(this.listener, 0))
    const notification = new Uint8Array(80)
    if (!notifRecv(this.listener.raw, notification)) throw new Error('The call went away')
    return notification
  }

  /** The message of LXC, byte for byte. */
  message(
    notification: Uint8Array,
    cookie = '',
    { notifSize = 80, respSize = 24, cookieLength, init }: Lies = {},
  ): Buffer {
    const bytes = Buffer.alloc(PROXY_NOTIF + notification.length + 24 + cookie.length)
    bytes.writeUInt32LE(process.pid, 8)
    bytes.writeUInt32LE(init ?? this.init, 12)
    bytes.writeUInt16LE(notifSize, 16)
    bytes.writeUInt16LE(respSize, 18)
    bytes.writeUInt16LE(64, 20)
    bytes.writeBigUInt64LE(cookieLength ?? BigInt(cookie.length), 24)
    bytes.set(notification, PROXY_NOTIF)
    bytes.set(notification.subarray(0, 8), PROXY_NOTIF + notification.length)
    bytes.write(cookie, PROXY_NOTIF + notification.length + 24)
    return bytes
  }

  /** Sends a message with the descriptors that LXC sends: the task, its memory (there to be written too), the listener. */
  forward(message: Uint8Array, notification: Uint8Array): void {
    const { tid } = decodeNotification(new DataView(notification.buffer))
    const open = (path: string, flags: number): Fd => openat(AT_FDCWD, Buffer.from(`${path}\0`), flags)
    using task = open(`/proc/${tid}`, O_RDONLY | O_DIRECTORY)
    using memory = open(`/proc/${tid}/mem`, O_RDONLY)
    send(this.connection, message, [task, memory, this.listener])
  }

  /** What the daemon replies. @param seconds how long it is waited for */
  async reply(seconds = 5): Promise<Reply> {
    const bytes = Buffer.alloc(8192)
    const end = Date.now() + 1000 * seconds
    let message: Message | undefined
    while (!message && Date.now() < end) {
      try {
        message = receive(this.connection, bytes)
      } catch (error) {
        // With something of ours unread.
        if (isErrno(error, 'ECONNRESET')) return 'closed'
        throw error
      }
      if (!message) await sleep(2)
    }
    if (!message) return 'nothing'
    if (message.length === 0) return 'closed'
    const reply = Buffer.from(bytes.subarray(0, message.length))
    return { bytes: reply, response: decodeResponse(new DataView(reply.buffer, reply.byteOffset + reply.length - 24)) }
  }

  /** Forwards the next call as LXC does, to its end. @returns the reply, and whether LXC's own answer was the first */
  async serve(cookie = ''): Promise<{ readonly reply: Reply; readonly wasFirst: boolean }> {
    const notification = await this.receive()
    this.forward(this.message(notification, cookie), notification)
    const reply = await this.reply()
    if (typeof reply === 'string') return { reply, wasFirst: false }
    return { reply, wasFirst: notifSend(this.listener.raw, reply.bytes.subarray(-24)) }
  }

  /** As LXC does after its connection was closed, with its next call. */
  reconnect(socket = this.#socket): void {
    this.connection[Symbol.dispose]()
    this.#socket = socket
    this.connection = connectUnix(socket, 'packet')
  }

  async end(): Promise<void> {
    this.connection[Symbol.dispose]()
    this.listener[Symbol.dispose]()
    const child = this.#child
    if (!child) return
    child.kill('SIGKILL')
    try {
      process.kill(this.init, 'SIGKILL')
    } catch {
      // It has ended with its parent.
    }
    await until('the container has ended', () => child.exitCode !== null || child.signalCode !== null)
  }
}
