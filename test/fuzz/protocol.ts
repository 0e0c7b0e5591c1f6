import { setTimeout as sleep } from 'node:timers/promises'
import { errnos } from '../../src/abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_RDONLY } from '../../src/abi/fcntl.ts'
import { MSG_DONTWAIT } from '../../src/abi/socket.ts'
import { SyscallError } from '../../src/kernel/error.ts'
import type { Fd } from '../../src/kernel/fd.ts'
import { openat } from '../../src/kernel/files.ts'
import { connectUnix, send, shutdown, socketpair } from '../../src/kernel/socket.ts'
import { fixture } from '../support/fixtures.ts'
import { execute, USERNS } from '../support/host.ts'
import type { Machine } from '../support/machine.ts'
import { Monitor } from '../support/monitor.ts'
import { monitorMessage, runtimeText } from './messages.ts'
import { list, read } from './processes.ts'
import { Random } from './random.ts'

const CONNECTIONS = 300
/** So often a container and a monitor that behave are served in between. */
const CHECK_EVERY = 400
const BREATHE_EVERY = 25
const MANY_FDS = 250
/** What the other side may do to us, once it has understood. */
const WANTED: ReadonlySet<number> = new Set([errnos.EPIPE, errnos.ECONNRESET, errnos.EAGAIN, errnos.ETOOMANYREFS])

/** Says to both sockets of a daemon what no runtime and no monitor would say, and looks whether it serves those that behave. */
export class ProtocolFuzzer {
  readonly #machine: Machine
  readonly #random: Random
  readonly #open: Fd[] = []
  /** Containers whose listeners are ours to give away. */
  readonly #monitors: Monitor[] = []
  readonly #descriptors: Fd[] = []
  readonly counts = { runtimes: 0, monitors: 0, silent: 0, closed: 0, served: 0 }

  private constructor(machine: Machine, seed: number) {
    this.#machine = machine
    this.#random = new Random(seed)
  }

  static async start(machine: Machine, seed: number): Promise<ProtocolFuzzer> {
    const fuzzer = new ProtocolFuzzer(machine, seed)
    for (let count = 0; count < 2; count++) fuzzer.#monitors.push(await Monitor.start(machine))
    const open = (path: string, flags = O_RDONLY): Fd => openat(AT_FDCWD, Buffer.from(`${path}\0`), flags)
    fuzzer.#descriptors.push(...socketpair(), ...['/dev/null', '/proc/self/mem'].map((path) => open(path)))
    fuzzer.#descriptors.push(...['/', '/proc/1'].map((path) => open(path, O_DIRECTORY)))
    return fuzzer
  }

  /** @throws {Error} if one that behaves is not served */
  async attack(seconds: number): Promise<void> {
    const end = performance.now() + 1000 * seconds
    for (let step = 1; performance.now() < end; step++) {
      this.#step()
      if (step % BREATHE_EVERY === 0) await sleep(1)
      if (step % CHECK_EVERY === 0) await this.check()
    }
    await this.check()
  }

  /** One container and one monitor that behave. */
  async check(): Promise<void> {
    this.counts.served++
    const container = [
      this.#machine.socket,
      '--userns',
      USERNS,
      '--await-agent',
      '--metadata',
      'security.syscalls.intercept.mknod=true',
    ]
    const made = (name: string) => ['mknod', `${this.#machine.shared}/${name}${this.counts.served}`, '020666', '1', '3']
    const call = ['--', fixture('caller'), ...made('runtime')]
    const { stdout, stderr } = await execute(fixture('filtered'), [...container, ...call])
    if (!stdout.includes('"ok":true')) throw new Error(`A container was not served: ${stdout} ${stderr}`)
    const monitor = await Monitor.start(this.#machine)
    try {
      monitor.ask(...made('monitor'))
      const { reply } = await monitor.serve('security.syscalls.intercept.mknod=true')
      const answer = typeof reply === 'string' ? reply : reply.response.error
      if (answer !== 0) throw new Error(`A monitor was not served: ${answer}`)
      const result = await monitor.returns(1)
      if (result !== 'ok') throw new Error(`The call of a monitor returned ${result}`)
    } finally {
      await monitor.end()
    }
  }

  async close(): Promise<void> {
    for (const fd of [...this.#open.splice(0), ...this.#descriptors.splice(0)]) fd[Symbol.dispose]()
    for (const monitor of this.#monitors.splice(0)) await monitor.end()
  }

  #step(): void {
    const random = this.#random
    if (this.#open.length >= CONNECTIONS || (this.#open.length > 0 && random.chance(20))) this.#close()
    const which = random.below(10)
    if (which < 5) this.#asRuntime()
    else if (which < 9) this.#asMonitor()
    else {
      this.counts.silent++
      this.#open.push(
        random.chance(50) ? connectUnix(this.#machine.socket) : connectUnix(this.#machine.lxcSocket, 'packet'),
      )
    }
  }

  #close(): void {
    this.counts.closed++
    const [fd] = this.#open.splice(this.#random.below(this.#open.length), 1)
    fd![Symbol.dispose]()
  }

  #asRuntime(): void {
    const random = this.#random
    this.counts.runtimes++
    const fd = connectUnix(this.#machine.socket)
    this.#open.push(fd)
    const text = runtimeText(random)
    const pieces = random.chance(60) ? [text] : [text.subarray(0, text.length / 3), text.subarray(text.length / 3)]
    for (const piece of pieces) this.#say(fd, piece, this.#some())
    if (random.chance(30)) shutdown(fd)
  }

  #asMonitor(): void {
    const random = this.#random
    this.counts.monitors++
    const fd =
      this.#open.length > 0 && random.chance(20)
        ? random.of(this.#open)
        : connectUnix(this.#machine.lxcSocket, 'packet')
    if (!this.#open.includes(fd)) this.#open.push(fd)
    const monitor = random.of(this.#monitors)
    const notification = random.bytes(80)
    notification.writeUInt32LE(random.of([monitor.init, monitor.init, 1, process.pid, 0]), 8)
    notification.writeInt32LE(random.of([133, 259, 165, 188, 99, 321]), 16)
    notification.writeUInt32LE(0xc000_003e, 20)
    const cookie = random.of([
      '',
      'mknod=true',
      'security.syscalls.intercept.mknod=true',
      ';;;',
      'profile=x',
      'x'.repeat(5000),
    ])
    const good = monitor.message(notification, cookie)
    for (let times = 1 + random.below(3); times > 0; times--) {
      const message = random.chance(30) ? good : monitorMessage(good, random)
      if (random.chance(50)) this.#say(fd, message, this.#some())
      else this.#forward(fd, message, monitor)
    }
  }

  /** With the descriptors that LXC sends, in an order of our own now and then. */
  #forward(fd: Fd, message: Buffer, monitor: Monitor): void {
    const open = (path: string, flags = O_RDONLY): Fd => openat(AT_FDCWD, Buffer.from(`${path}\0`), flags)
    using task = open(`/proc/${monitor.init}`, O_DIRECTORY)
    using memory = open(`/proc/${monitor.init}/mem`)
    const fds = [task, memory, monitor.listener]
    this.#say(fd, message, this.#random.chance(80) ? fds : fds.slice(this.#random.below(3)).reverse())
  }

  /** Descriptors of all kinds: listeners, too, and sometimes more than anybody takes. */
  #some(): Fd[] {
    const random = this.#random
    const all = [...this.#descriptors, ...this.#monitors.map(({ listener }) => listener)]
    const count = random.chance(3) ? MANY_FDS : random.below(5)
    return Array.from({ length: count }, () => random.of(all))
  }

  #say(fd: Fd, bytes: Buffer, fds: readonly Fd[]): void {
    try {
      send(fd, bytes, fds, MSG_DONTWAIT)
    } catch (error) {
      if (!(error instanceof SyscallError) || !WANTED.has(error.errno)) throw error
    }
  }
}

/** What a process has that may grow. */
interface Weight {
  readonly pid: string
  readonly descriptors: number
  readonly threads: number
}

/** Of the daemon and its engine. */
export function weights({ pid }: Machine): readonly Weight[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).trim().split(' ')
  return [String(pid), ...children].map((each) => ({
    pid: each,
    descriptors: list(`/proc/${each}/fd`).length,
    threads: list(`/proc/${each}/task`).length,
  }))
}

/** Of a worker thread of Node. */
const DESCRIPTORS_OF_A_THREAD = 4

/** The pool of threads may have grown. */
export const isAsBefore = (before: readonly Weight[], now: readonly Weight[]): boolean =>
  now.length === before.length &&
  now.every(({ pid, descriptors, threads }, index) => {
    const { pid: was, descriptors: least, threads: fewest } = before[index]!
    return pid === was && descriptors <= least + DESCRIPTORS_OF_A_THREAD * Math.max(0, threads - fewest)
  })
