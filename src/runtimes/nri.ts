import type { Duplex } from 'node:stream'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

interface Scalars {
  readonly string: string
  readonly bytes: Uint8Array
  readonly bool: boolean
  readonly int32: number
  readonly uint32: number
  readonly uint64: bigint
}
type Type = keyof Scalars | Message<Shape>
/** The number of a field, its type, and `true` if it repeats. */
type Field = readonly [number: number, type: Type, repeats?: true]
type Shape = { readonly [name: string]: Field }
type One<T> = T extends keyof Scalars ? Scalars[T] : T extends Message<infer S> ? Decoded<S> : never
/** Absent scalars have their default, 0 or empty. Absent messages are undefined, and differ from empty ones. */
type Decoded<S extends Shape> = {
  readonly [Name in keyof S]: S[Name] extends readonly [number, infer T, true]
    ? readonly One<T>[]
    : One<S[Name][1]> | (S[Name][1] extends Message<Shape> ? undefined : never)
}
type Given<S extends Shape> = {
  readonly [Name in keyof S]?:
    | (S[Name] extends readonly [number, infer T, true]
        ? readonly (T extends Message<infer M> ? Given<M> : One<T>)[]
        : S[Name][1] extends Message<infer M>
          ? Given<M>
          : One<S[Name][1]>)
    | undefined
}

const EMPTY = { string: '', bytes: new Uint8Array(), bool: false, int32: 0, uint32: 0, uint64: 0n }
const wireType = (type: Type): WireType =>
  type instanceof Message || type === 'string' || type === 'bytes' ? WireType.LengthDelimited : WireType.Varint
const isEmpty = (value: unknown): boolean =>
  value instanceof Uint8Array ? value.length === 0 : Object.values(EMPTY).includes(value as never)

/** A message of protobuf 3: its fields, of which we list those that we use. A decoder skips all others. */
class Message<S extends Shape> {
  readonly #shape: S

  constructor(shape: S) {
    this.#shape = shape
  }

  encode(value: Given<S>): Uint8Array {
    const writer = new BinaryWriter()
    this.#write(writer, value)
    return writer.finish()
  }

  /** @throws {Error} if the bytes are no such message */
  decode(bytes: Uint8Array): Decoded<S> {
    const reader = new BinaryReader(bytes)
    const fields = Object.entries(this.#shape).map(([name, [number, type, repeats]]) => ({
      name,
      number,
      type,
      repeats,
    }))
    const value: Record<string, unknown> = Object.fromEntries(
      fields.map(({ name, type, repeats }) => [name, repeats ? [] : type instanceof Message ? undefined : EMPTY[type]]),
    )
    while (reader.pos < reader.len) {
      const [number, wire] = reader.tag()
      const field = fields.find((each) => each.number === number && wireType(each.type) === wire)
      if (!field) {
        reader.skip(wire, number)
        continue
      }
      const { name, type, repeats } = field
      const one = type instanceof Message ? type.decode(reader.bytes()) : reader[type]()
      if (repeats) (value[name] as unknown[]).push(one)
      else value[name] = one
    }
    return value as Decoded<S>
  }

  #write(writer: BinaryWriter, value: Given<S>): void {
    for (const [name, [number, type, repeats]] of Object.entries(this.#shape)) {
      const given: unknown = value[name]
      if (given === undefined) continue
      for (const one of repeats ? (given as readonly unknown[]) : [given]) {
        if (type instanceof Message) {
          writer.tag(number, WireType.LengthDelimited).fork()
          type.#write(writer, one as Given<Shape>)
          writer.join()
        } else if (repeats || !isEmpty(one)) writer.tag(number, wireType(type))[type](one as never)
      }
    }
  }
}

/** ttrpc's own messages: github.com/containerd/ttrpc 1.2.9, request.proto; google/rpc/status.proto. */
const Request = new Message({ service: [1, 'string'], method: [2, 'string'], payload: [3, 'bytes'] })
const Status = new Message({ code: [1, 'int32'], message: [2, 'string'] })
const Response = new Message({ status: [1, Status], payload: [2, 'bytes'] })

/** A number that may be absent, such as an errno. */
const Optional = new Message({ value: [1, 'uint32'] })
const Arg = new Message({
  index: [1, 'uint32'],
  value: [2, 'uint64'],
  valueTwo: [3, 'uint64'],
  op: [4, 'string'],
})
const Rule = new Message({
  names: [1, 'string', true],
  action: [2, 'string'],
  errnoRet: [3, Optional],
  args: [4, Arg, true],
})
const Seccomp = new Message({
  defaultAction: [1, 'string'],
  defaultErrno: [2, Optional],
  architectures: [3, 'string', true],
  flags: [4, 'string', true],
  listenerPath: [5, 'string'],
  listenerMetadata: [6, 'string'],
  syscalls: [7, Rule, true],
})
/** On the wire, a map is a list of such entries. */
const Entry = new Message({ key: [1, 'string'], value: [2, 'string'] })
const Namespace = new Message({ type: [1, 'string'] })
const Pod = new Message({ name: [2, 'string'], namespace: [4, 'string'], annotations: [6, Entry, true] })
const Linux = new Message({
  namespaces: [1, Namespace, true],
  seccompProfile: [7, new Message({ profileType: [1, 'int32'] })],
  seccompPolicy: [8, Seccomp],
})
const Container = new Message({ name: [3, 'string'], linux: [11, Linux] })
const Adjustment = new Message({ linux: [6, new Message({ seccompPolicy: [6, Seccomp] })] })

/**
 * The messages of NRI that the plugin needs, with those fields that it uses.
 *
 * @see github.com/containerd/nri 0.12.2, pkg/api/api.proto (Apache-2.0)
 */
export const nriMessages = {
  RegisterPluginRequest: new Message({ pluginName: [1, 'string'], pluginIdx: [2, 'string'] }),
  ConfigureRequest: new Message({
    runtimeName: [2, 'string'],
    runtimeVersion: [3, 'string'],
    nriVersion: [6, 'string'],
  }),
  ConfigureResponse: new Message({ events: [2, 'int32'] }),
  SynchronizeRequest: new Message({ more: [3, 'bool'] }),
  SynchronizeResponse: new Message({ more: [2, 'bool'] }),
  CreateContainerRequest: new Message({ pod: [1, Pod], container: [2, Container] }),
  CreateContainerResponse: new Message({ adjust: [1, Adjustment] }),
  ValidateContainerAdjustmentRequest: new Message({
    pod: [1, Pod],
    container: [2, Container],
    adjust: [3, Adjustment],
  }),
  ValidateContainerAdjustmentResponse: new Message({ reject: [1, 'bool'], reason: [2, 'string'] }),
} as const
/** What a runtime tells of a container that it creates. */
export type NriCreation = ReturnType<typeof nriMessages.CreateContainerRequest.decode>
export type NriSeccomp = Parameters<typeof Seccomp.encode>[0]

/** The events of the plugin: bits of a mask (enum Event, counted from 1). */
export const NRI_EVENTS = { createContainer: 1 << 3, validateContainerAdjustment: 1 << 13 } as const
/** The type of a seccomp profile (enum ProfileType). */
export const NRI_PROFILES = { runtimeDefault: 0, unconfined: 1, localhost: 2 } as const

/** The multiplexer's connections: on the first, the runtime asks the plugin; on the second, the plugin the runtime. */
const [TO_PLUGIN, TO_RUNTIME] = [1, 2]
const FRAME_HEADER = 8
/** A runtime reads a frame into a buffer of 4,096 bytes, and closes the connection if it is longer. */
const FRAME = 4096 - FRAME_HEADER
const HEADER = 10
/** A ttrpc message has at most 4 MiB; the runtime sends a message in one frame, or its header before it. */
const LONGEST = 4 * 1024 * 1024 + HEADER
/** The runtime queues 256 frames: an answer that needs more of them could close the connection. */
const LONGEST_ANSWER = 200 * FRAME
const [REQUEST, RESPONSE] = [1, 2]
/** gRPC's codes. */
const [FAILED_PRECONDITION, UNIMPLEMENTED, RESOURCE_EXHAUSTED] = [9, 12, 8]

/** Bytes that have arrived, until there are enough of them. */
class Queue {
  #chunks: Uint8Array[] = []
  #length = 0

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
  }

  /** Cuts off a header and the rest whose length it tells. @returns undefined while they are not complete */
  take(size: number, restOf: (header: Buffer) => number): readonly [header: Buffer, rest: Buffer] | undefined {
    if (this.#length < size) return undefined
    if (this.#chunks[0]!.length < size) this.#chunks = [Buffer.concat(this.#chunks)]
    const first = this.#chunks[0]!
    const header = Buffer.from(first.buffer, first.byteOffset, size)
    const length = restOf(header)
    if (length > LONGEST) throw new Error(`Cannot read from the runtime: ${length} bytes are too many`)
    if (this.#length < size + length) return undefined
    const all =
      this.#chunks.length > 1 ? Buffer.concat(this.#chunks) : Buffer.from(first.buffer, first.byteOffset, first.length)
    this.#chunks = [all.subarray(size + length)]
    this.#length -= size + length
    return [all.subarray(0, size), all.subarray(size, size + length)]
  }
}

/** Why the plugin refuses a request: the runtime passes the sentence on to whoever asked for the container. */
export class NriRefusal extends Error {
  override readonly name = 'NriRefusal'
}

/** Answers the runtime's requests, by their names. @throws {NriRefusal} */
export type NriHandlers = Readonly<Record<string, (payload: Uint8Array) => Uint8Array>>

/**
 * A plugin's connection to a runtime: ttrpc (unary calls only) within the multiplexer of NRI.
 *
 *   frame    u32 connection | u32 length | bytes         big endian, as all numbers here
 *   message  u32 length | u32 stream | u8 type | u8 flags | bytes    in one frame or several
 *
 * @see containerd/nri pkg/net/multiplex/mux.go, containerd/ttrpc channel.go, server.go
 */
export class NriConnection {
  readonly #socket: Duplex
  readonly #handlers: NriHandlers
  readonly #frames = new Queue()
  readonly #queues: ReadonlyMap<number, Queue> = new Map([TO_PLUGIN, TO_RUNTIME].map((id) => [id, new Queue()]))
  readonly #waiting = new Map<number, (response: ReturnType<typeof Response.decode>) => void>()
  #stream = 1

  /** @param socket is destroyed if the runtime breaks the protocol, with an error that says how */
  constructor(socket: Duplex, handlers: NriHandlers) {
    this.#socket = socket
    this.#handlers = handlers
    socket.on('data', (chunk: Buffer) => {
      try {
        this.#hear(chunk)
      } catch (error) {
        socket.destroy(error as Error)
      }
    })
  }

  /** Calls the runtime. @throws {Error} with what the runtime says, if it refuses */
  async call(service: string, method: string, payload: Uint8Array): Promise<void> {
    const stream = this.#stream
    this.#stream += 2
    const answer = new Promise<ReturnType<typeof Response.decode>>((resolve) => this.#waiting.set(stream, resolve))
    this.#send(TO_RUNTIME, stream, REQUEST, Request.encode({ service, method, payload }))
    const { status } = await answer
    if (status?.code) throw new Error(`${method}: ${status.message}`)
  }

  #hear(chunk: Buffer): void {
    this.#frames.push(chunk)
    for (;;) {
      const frame = this.#frames.take(FRAME_HEADER, (header) => header.readUInt32BE(4))
      if (!frame) return
      const id = frame[0].readUInt32BE(0)
      const queue = this.#queues.get(id)
      queue?.push(frame[1])
      for (let message = queue?.take(HEADER, lengthOf); message; message = queue?.take(HEADER, lengthOf))
        this.#receive(id, ...message)
    }
  }

  #receive(connection: number, header: Buffer, body: Buffer): void {
    const [stream, type] = [header.readUInt32BE(4), header.readUInt8(8)]
    if (connection === TO_PLUGIN && type === REQUEST) this.#send(TO_PLUGIN, stream, RESPONSE, this.#answer(body))
    if (connection !== TO_RUNTIME || type !== RESPONSE) return
    this.#waiting.get(stream)?.(Response.decode(body))
    this.#waiting.delete(stream)
  }

  #answer(request: Buffer): Uint8Array {
    const { method, payload } = Request.decode(request)
    const refuse = (code: number, message: string): Uint8Array => Response.encode({ status: { code, message } })
    if (!Object.hasOwn(this.#handlers, method)) return refuse(UNIMPLEMENTED, `${method} is not implemented`)
    try {
      const answer = Response.encode({ payload: this.#handlers[method]!(payload) })
      if (answer.length <= LONGEST_ANSWER) return answer
      return refuse(RESOURCE_EXHAUSTED, `the answer has ${answer.length} bytes, and at most ${LONGEST_ANSWER} are sent`)
    } catch (error) {
      if (!(error instanceof NriRefusal)) throw error
      return refuse(FAILED_PRECONDITION, error.message)
    }
  }

  #send(connection: number, stream: number, type: number, body: Uint8Array): void {
    const header = Buffer.alloc(HEADER)
    header.writeUInt32BE(body.length)
    header.writeUInt32BE(stream, 4)
    header.writeUInt8(type, 8)
    const message = Buffer.concat([header, body])
    for (let from = 0; from < message.length; from += FRAME) {
      const piece = message.subarray(from, from + FRAME)
      const frame = Buffer.alloc(FRAME_HEADER)
      frame.writeUInt32BE(connection)
      frame.writeUInt32BE(piece.length, 4)
      this.#socket.write(Buffer.concat([frame, piece]))
    }
  }
}

const lengthOf = (header: Buffer): number => header.readUInt32BE(0)
