// Control groups, callers of bpf(2) inside and outside of a container, and programs: for tests of bpf.devices.

import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { BPF } from '../../src/abi/bpf.ts'
import { parseMountinfo } from '../../src/kernel/procfs/mountinfo.ts'
import { fixture } from './fixtures.ts'
import { BASE, execute, type Host, USERNS, until } from './host.ts'

let serial = 0
/** O_DIRECTORY, for the fixture. */
export const DIRECTORY = process.arch === 'arm64' ? '40000' : '200000'

/** Where the unified hierarchy is mounted from its root; undefined if it is not. */
const unified = (): string | undefined =>
  parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')).findLast(
    ({ type, root }) => type === 'cgroup2' && root === '/',
  )?.point

/** Why nothing about device programs can be tested here, or undefined. */
export const withoutCgroups = (): string | undefined =>
  unified() === undefined ? 'no cgroup v2 is mounted here' : undefined

/** A cgroup of a test, removed with all below it. */
export class Group {
  readonly path: string

  constructor(path = `${unified()}/intercede-test-${process.pid}-${serial++}`) {
    this.path = path
    mkdirSync(path)
  }

  /** Makes one below it, which belongs to the container's root. */
  below(name: string): string {
    const path = `${this.path}/${name}`
    mkdirSync(path)
    chownSync(path, BASE, BASE)
    return path
  }

  /** Gives it to the root of the containers, as a runtime does that delegates it. */
  delegate(): this {
    for (const name of ['', '/cgroup.procs', '/cgroup.subtree_control', '/cgroup.threads'])
      chownSync(this.path + name, BASE, BASE)
    return this
  }

  /** Its processes were killed, and the kernel needs a moment. */
  async remove(): Promise<void> {
    await until(`${this.path} is removed`, () => {
      try {
        removeTree(this.path)
      } catch {
        // busy still
      }
      return !existsSync(this.path)
    })
  }
}

function removeTree(path: string): void {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(`${path}/${entry.name}`)
  rmdirSync(path)
}

/** What a call gave: a number or the name of an errno, and the argument and buffers as they were after it. */
export interface Said {
  readonly result: number | string
  readonly attr: string
  readonly buffers: readonly string[]
}

interface Containment {
  /** For the compiler. */
  readonly flags?: readonly string[]
  /** Of the fixture `filtered`. */
  readonly options?: readonly string[]
  /** A command that becomes the caller, such as unshare. */
  readonly within?: readonly string[]
}

/** The fixture `bpf-calls`, in a container or on the host. */
export class Caller {
  readonly #child: ChildProcess
  /** The calls of all containers that were asked for: each leaves a record. */
  static calls = 0
  readonly #isContained: boolean
  readonly #waiting: ((line: string) => void)[] = []
  #hasEnded = false

  constructor(program: string, args: readonly string[], isContained = false) {
    this.#isContained = isContained
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface(this.#child.stdout!).on('line', (line) => this.#waiting.shift()?.(line))
    this.#child.once('exit', () => {
      this.#hasEnded = true
      for (const give of this.#waiting.splice(0)) give('ended')
    })
  }

  /** On the host, with exactly the two capabilities that loading takes. */
  static native(...options: readonly string[]): Caller {
    return new Caller(fixture('bpf-calls'), options.length > 0 ? options : ['--exactly'])
  }

  /** In a container of `host` in this cgroup, as its root. */
  static contained(host: Host, cgroup: string, { flags = [], options = [], within = [] }: Containment = {}): Caller {
    const calls = [...within, fixture('bpf-calls', flags)]
    const container = [host.socket, '--userns', USERNS, '--await-agent', '--bpf', '--cgroup', cgroup, ...options]
    return new Caller(fixture('filtered'), [...container, '--', ...calls], true)
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** The answer to a line, "ended" if the process has; many may be on their way at once. */
  ask(line: string): Promise<string> {
    if (this.#hasEnded) return Promise.resolve('ended')
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#child.stdin!.write(`${line}\n`)
    })
  }

  async number(line: string): Promise<number> {
    const said = await this.ask(line)
    if (!said.startsWith('ok ')) throw new Error(`${line.slice(0, 200)}: ${said}`)
    return Number(said.split(' ')[1])
  }

  async bpf(command: number, { bytes, buffers = [] }: Attr, prefix = ''): Promise<Said> {
    if (this.#isContained) Caller.calls++
    return parseSaid(
      await this.ask(`${prefix}bpf ${command} ${bytes.length} ${hex(bytes)} ${buffers.join(' ')}`.trim()),
    )
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.stdin?.end()
    if (this.#child.exitCode === null && this.#child.signalCode === null) await ended
  }
}

function parseSaid(line: string): Said {
  const words = line.split(' ')
  const ok = words[0] === 'ok'
  const [attr = '', ...buffers] = words.slice(ok ? 2 : 1)
  return { result: ok ? Number(words[1]) : words[0]!, attr, buffers }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex') || '-'

/** The argument of a call; buffers are `AT:CONTENT` in the fixture's words. */
export interface Attr {
  readonly bytes: Uint8Array
  readonly buffers?: readonly string[]
}

/** @param words u32 by their offsets */
export function attr(size: number, words: Readonly<Record<number, number>>, buffers: readonly string[] = []): Attr {
  const view = new DataView(new ArrayBuffer(size))
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value, true)
  return { bytes: new Uint8Array(view.buffer), buffers }
}

/** An instruction of 8 bytes. */
export function insn(code: number, { dst = 0, src = 0, off = 0, imm = 0 } = {}): Buffer {
  const bytes = Buffer.alloc(8)
  bytes[0] = code
  bytes[1] = dst | (src << 4)
  bytes.writeInt16LE(off, 2)
  bytes.writeInt32LE(imm, 4)
  return bytes
}

const GPL = '47504c00'
export const RETURN = 0x95
export const MOV = 0xb7
export const ALLOW = Buffer.concat([insn(MOV, { imm: 1 }), insn(RETURN)])
export const DENY = Buffer.concat([insn(MOV, { imm: 0 }), insn(RETURN)])

/** BPF_PROG_LOAD of a device program. */
export function loading(
  instructions: Uint8Array = ALLOW,
  { size = 144, words = {}, log }: { size?: number; words?: Record<number, number>; log?: string } = {},
): Attr {
  const buffers = [`8:${hex(instructions)}`, `16:${GPL}`, ...(log === undefined ? [] : [`32:${log}`])]
  return attr(size, { 0: 15, 4: instructions.length / 8, ...words }, buffers)
}

const PROBE = 'echo 0 >"$1/cgroup.procs" && if true <"$2"; then echo open; else echo closed; fi'

/** Can a process of this cgroup open a device? */
export async function probe(group: string, device: string): Promise<string> {
  const { stdout, stderr } = await execute('sh', ['-c', PROBE, 'sh', group, device])
  return stdout.trim() || stderr
}

/** BPF_OBJ_GET_INFO_BY_FD; the memory must be zero, for the kernel reads what is wanted from it. */
export const describing = (object: number): Attr => attr(16, { 0: object, 4: 80 }, [`8:${'00'.repeat(80)}`])
/** @param info the beginning of `struct bpf_prog_info` */
export const idOf = (info: string): number => Buffer.from(info, 'hex').readUInt32LE(4)

/** What the host's root attaches, as a runtime would. */
export class Outsider {
  readonly #caller = new Caller(fixture('bpf-calls'), [])

  /** @returns the descriptors of the program and the group */
  async attach(
    group: string,
    flags: number,
    instructions = ALLOW,
  ): Promise<{ program: number; fd: number; id: number }> {
    const program = Number((await this.#caller.bpf(BPF.PROG_LOAD, loading(instructions))).result)
    const fd = await this.#caller.number(`open ${group} ${DIRECTORY}`)
    const { result } = await this.#caller.bpf(BPF.PROG_ATTACH, attr(20, { 0: fd, 4: program, 8: 6, 12: flags }))
    if (result !== 0) throw new Error(`Cannot attach as the host: ${result}`)
    const { buffers } = await this.#caller.bpf(BPF.OBJ_GET_INFO_BY_FD, describing(program))
    return { program, fd, id: idOf(buffers[0]!) }
  }

  /** The numbers of the programs on a group. */
  async attached(group: string): Promise<readonly number[]> {
    const fd = await this.#caller.number(`open ${group} ${DIRECTORY}`)
    const query = attr(32, { 0: fd, 4: 6, 24: 64 }, ['16:+256'])
    const { attr: after, buffers } = await this.#caller.bpf(BPF.PROG_QUERY, query)
    await this.#caller.ask(`close ${fd}`)
    const ids = Buffer.from(buffers[0]!.padEnd(512, '0'), 'hex')
    return Array.from({ length: Buffer.from(after, 'hex').readUInt32LE(24) }, (_, index) => ids.readUInt32LE(4 * index))
  }

  send(socket: string, fd: number): Promise<string> {
    return this.#caller.ask(`send ${socket} ${fd}`)
  }

  close(): Promise<void> {
    return this.#caller.close()
  }
}
