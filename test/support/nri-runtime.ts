// The runtime's side of NRI, byte by byte from its published form: for tests of the plugin, with which it shares no code.

import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { until } from './host.ts'

/** A number of protobuf: seven bits a byte, the lowest first. */
function varint(value: bigint | number): Buffer {
  const bytes: number[] = []
  let left = BigInt(value)
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128)
  return Buffer.from([...bytes, Number(left)])
}
export const numberField = (field: number, value: bigint | number): Buffer =>
  Buffer.concat([varint(field * 8), varint(value)])
/** A field that has a length: a text, or a message of these fields. */
export function field(number: number, ...parts: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
  return Buffer.concat([varint(number * 8 + 2), varint(body.length), body])
}
export const mapField = (number: number, map: Readonly<Record<string, string>>): Buffer =>
  Buffer.concat(Object.entries(map).map(([key, value]) => field(number, field(1, key), field(2, value))))

/** The fields of a message, each with its number: numbers, and the bytes of everything else. */
export function fieldsOf(bytes: Buffer): readonly (readonly [number, bigint | Buffer])[] {
  const found: (readonly [number, bigint | Buffer])[] = []
  let at = 0
  const read = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const tag = Number(read())
    const value = read()
    if ((tag & 7) === 2) at += Number(value)
    found.push([tag >> 3, (tag & 7) === 2 ? bytes.subarray(at - Number(value), at) : value])
  }
  return found
}
/** The first field with this number that has a length. */
export const partOf = (bytes: Buffer, number: number): Buffer =>
  (fieldsOf(bytes).find(([each]) => each === number)?.[1] as Buffer | undefined) ?? Buffer.alloc(0)

/** A frame of the multiplexer: `u32 connection | u32 length | bytes`. */
export function frame(connection: number, body: Buffer): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt32BE(connection)
  header.writeUInt32BE(body.length, 4)
  return Buffer.concat([header, body])
}
/** A message of ttrpc: `u32 length | u32 stream | u8 type | u8 flags | bytes`. */
export function ttrpc(stream: number, type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(10)
  header.writeUInt32BE(body.length)
  header.writeUInt32BE(stream, 4)
  header.writeUInt8(type, 8)
  return Buffer.concat([header, body])
}

export interface Answer {
  readonly code: number
  readonly message: string
  readonly payload: Buffer
  /** The bytes of the longest frame that had a part of it, its header included. */
  readonly frame: number
}

/** One plugin that has connected. It is told nothing unless the test says so. */
export class Plugin {
  readonly socket: Socket
  /** All that it has sent. */
  sent = Buffer.alloc(0)
  isClosed = false
  #stream = 1

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.sent = Buffer.concat([this.sent, chunk])
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isClosed = true
    })
  }

  /** The bytes of one connection of the multiplexer, and the longest frame. */
  #heard(connection: number, from = 0): { readonly bytes: Buffer; readonly frame: number } {
    const bodies: Buffer[] = []
    let longest = 0
    for (let at = from; at + 8 <= this.sent.length; ) {
      const end = at + 8 + this.sent.readUInt32BE(at + 4)
      if (this.sent.readUInt32BE(at) === connection) bodies.push(this.sent.subarray(at + 8, end))
      longest = Math.max(longest, end - at)
      at = end
    }
    return { bytes: Buffer.concat(bodies), frame: longest }
  }

  /** Asks the plugin, in one frame unless `pieces` says otherwise. */
  async ask(method: string, payload: Buffer = Buffer.alloc(0), pieces = Number.MAX_SAFE_INTEGER): Promise<Answer> {
    const [stream, from] = [this.#stream, this.sent.length]
    this.#stream += 2
    const service = 'nri.pkg.api.v1alpha1.Plugin'
    const whole = frame(1, ttrpc(stream, 1, Buffer.concat([field(1, service), field(2, method), field(3, payload)])))
    for (let at = 0; at < whole.length; at += pieces) {
      this.socket.write(whole.subarray(at, at + pieces))
      if (pieces < whole.length) await new Promise((done) => setImmediate(done))
    }
    const heard = () => this.#heard(1, from)
    const isWhole = (): boolean => {
      const { bytes } = heard()
      return bytes.length >= 10 && bytes.length >= 10 + bytes.readUInt32BE(0)
    }
    await until(`the plugin answers ${method}`, () => this.isClosed || isWhole(), 10)
    if (!isWhole()) throw new Error('the plugin has closed the connection')
    const { bytes, frame: longest } = heard()
    const status = fieldsOf(partOf(bytes.subarray(10), 1))
    return {
      code: Number(status.find(([number]) => number === 1)?.[1] ?? 0),
      message: String(status.find(([number]) => number === 2)?.[1] ?? ''),
      payload: partOf(bytes.subarray(10), 2),
      frame: longest,
    }
  }

  /** Does what a runtime does with a new plugin. @returns the events of which it wants to hear */
  async register(): Promise<bigint> {
    await until('the plugin registers', () => this.sent.length > 0, 10)
    this.socket.write(frame(2, ttrpc(1, 2, Buffer.alloc(0))))
    const about = Buffer.concat([field(2, 'containerd'), field(3, 'v2.3.4'), field(6, 'v0.12.0')])
    const { payload } = await this.ask('Configure', about)
    await this.ask('Synchronize')
    return fieldsOf(payload)[0]![1] as bigint
  }
}

/** A socket on which plugins connect. */
export class NriRuntime {
  readonly path: string
  readonly plugins: Plugin[] = []
  #server: Server | undefined

  constructor(path: string) {
    this.path = path
  }

  async start(): Promise<void> {
    rmSync(this.path, { force: true })
    this.#server = createServer((socket) => this.plugins.push(new Plugin(socket)))
    await new Promise<void>((done) => this.#server!.listen(this.path, done))
  }

  /** The plugin that connects next, registered. */
  async next(count = this.plugins.length + 1): Promise<Plugin> {
    await until('the plugin connects', () => this.plugins.length >= count, 20)
    const plugin = this.plugins[count - 1]!
    await plugin.register()
    return plugin
  }

  /** Ends as a runtime that is restarted. */
  async stop(): Promise<void> {
    const closed = new Promise((done) => this.#server?.close(done) ?? done(undefined))
    for (const { socket } of this.plugins) socket.destroy()
    await closed
  }
}

/** What a test says of a container that is created, in the words of CreateContainerRequest. */
export interface Creation {
  readonly namespace?: string
  readonly name?: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly namespaces?: readonly string[]
  /** RuntimeDefault, Unconfined, Localhost: 0 to 2. Without one, the runtime does not say. */
  readonly profile?: number
  readonly policy?: Buffer
}

export function creation({ annotations = {}, policy, profile, ...given }: Creation): Buffer {
  const { namespace = 'apps', name = 'web', namespaces = ['pid', 'user'] } = given
  const pod = field(1, field(1, 'f00d'), field(2, 'pod-1'), field(4, namespace), mapField(6, annotations))
  const linux = field(
    11,
    ...namespaces.map((type) => field(1, field(1, type), field(2, `/proc/7/ns/${type}`))),
    ...(profile === undefined ? [] : [field(7, ...(profile === 0 ? [] : [numberField(1, profile)]))]),
    ...(policy === undefined ? [] : [field(8, policy)]),
  )
  return Buffer.concat([pod, field(2, field(1, 'c0de'), field(3, name), field(8, 'PATH=/bin'), linux)])
}

/** A rule of a LinuxSeccomp. */
export const rule = (action: string, names: readonly string[], ...rest: readonly Buffer[]): Buffer =>
  field(7, ...names.map((name) => field(1, name)), field(2, action), ...rest)
