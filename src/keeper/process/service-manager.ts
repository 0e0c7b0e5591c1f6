import { readFileSync } from 'node:fs'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import { dup, Fd, type Handle, setCloexec } from '../../kernel/fd.ts'
import { textFile } from '../../kernel/shared-memory.ts'
import { connectDatagram, send } from '../../kernel/socket.ts'

/** The first descriptor that systemd passes, SD_LISTEN_FDS_START of sd-daemon.h. */
const FIRST = 3
/** Interval of attempts to send while the socket of the service manager is full. */
const RETRY_MS = 5
/** The variable with the number of a file's descriptor; the file names the descriptors of the previous program. */
const LEFT = 'INTERCEDE_LEFT'
/** Variables that are removed from the environment, because they are for this process and not for its children. */
const OWN = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'] as const

/** A descriptor from the service manager, or from the previous program in this process. */
export interface Inherited {
  readonly name: string
  readonly fd: Fd
}

/**
 * Talks to the service manager, which is systemd: takes inherited descriptors, reports the state of the service, and
 * stores descriptors for the next process. Copies of these stay here for the next program in this process, even without
 * a service manager.
 *
 * @see sd_notify(3), sd_listen_fds(3)
 */
export class ServiceManager {
  /** Sockets of systemd units, and descriptors that the previous process stored; whoever takes them owns them. */
  readonly inherited: readonly Inherited[]
  readonly #kept = new Map<string, Fd>()
  readonly #env: NodeJS.ProcessEnv
  readonly #own: NodeJS.ProcessEnv
  readonly #socket: Fd | undefined
  readonly #hasWatchdog: boolean
  #status = ''
  readonly #queue: { readonly text: string; readonly fds: readonly Fd[] }[] = []

  /**
   * @param env the process's environment, from which the variables for us are removed
   */
  constructor(env: NodeJS.ProcessEnv) {
    this.inherited = [...inherit(env), ...left(env)]
    for (const { name, fd } of this.inherited) this.hold(name, fd)
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog, WATCHDOG_PID: watched } = env
    this.#socket = socket ? connectDatagram(socket) : undefined
    this.#hasWatchdog = watchdog !== undefined && (watched === undefined || watched === String(process.pid))
    this.#env = env
    this.#own = Object.fromEntries(OWN.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])))
    for (const name of OWN) delete env[name]
  }

  /** True if the process runs as a service. */
  get isThere(): boolean {
    return this.#socket !== undefined
  }

  /** Reports that the service serves. @param status one line for `systemctl status` */
  ready(status: string): void {
    this.#status = status
    this.#tell(`READY=1\nSTATUS=${status}`)
  }

  /** Reports a reload, which lasts until the next `ready`. */
  reloading(): void {
    // systemd expects CLOCK_MONOTONIC, which libuv's clock is too.
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  /** Reports the line anew if it has changed. To be called once a second. */
  status(status: string): void {
    if (status !== this.#status) this.#tell(`STATUS=${status}`)
    this.#status = status
  }

  stopping(): void {
    this.#tell('STOPPING=1')
  }

  /** Feeds the watchdog. To be called once a second. */
  alive(): void {
    if (this.#hasWatchdog) this.#tell('WATCHDOG=1')
  }

  /** True if all messages were sent. */
  get isIdle(): boolean {
    return this.#queue.length === 0
  }

  /** Stores a copy of a descriptor for the next process and the next program. systemd stores no descriptor twice. */
  store(name: string, fd: Handle): void {
    this.hold(name, fd)
    this.#tell(`FDSTORE=1\nFDPOLL=0\nFDNAME=${name}`, [fd])
  }

  /** Stores a copy for the next program in this process only. */
  hold(name: string, fd: Handle): void {
    this.#kept.get(name)?.[Symbol.dispose]()
    this.#kept.set(name, dup(fd))
  }

  has(name: string): boolean {
    return this.#kept.has(name)
  }

  remove(name: string): void {
    this.#kept.get(name)?.[Symbol.dispose]()
    this.#kept.delete(name)
    this.#tell(`FDSTOREREMOVE=1\nFDNAME=${name}`)
  }

  /**
   * Hands all copies, and the variables of the service manager, to the next program in this process. A file holds the
   * names, since one environment variable can be too short for them (MAX_ARG_STRLEN).
   *
   * @param become executes the program, which inherits these descriptors
   * @throws {Error} the error of `become`; then nothing has changed
   */
  leave(become: (fds: readonly Handle[]) => never): never {
    const fds = [...this.#kept].map(([name, { raw }]) => [name, raw])
    using list = textFile('intercede-left', JSON.stringify(fds))
    Object.assign(this.#env, this.#own, { [LEFT]: String(list.raw) })
    try {
      return become([...this.#kept.values(), list])
    } finally {
      for (const name of [LEFT, ...OWN]) delete this.#env[name]
    }
  }

  #tell(text: string, fds: readonly Handle[] = []): void {
    if (!this.#socket || (this.#queue.length === 0 && this.#send(text, fds))) return
    this.#queue.push({ text, fds: fds.map(dup) })
    if (this.#queue.length === 1) setTimeout(() => this.#flush(), RETRY_MS)
  }

  #flush(): void {
    while (this.#queue.length > 0) {
      const { text, fds } = this.#queue[0]!
      if (!this.#send(text, fds)) {
        setTimeout(() => this.#flush(), RETRY_MS)
        return
      }
      for (const fd of fds) fd[Symbol.dispose]()
      this.#queue.shift()
    }
  }

  /**
   * @returns false if the socket is full, or there is no memory now; true even if no service manager listens, which
   *   must not end the service
   */
  #send(text: string, fds: readonly Handle[]): boolean {
    try {
      send(this.#socket!, Buffer.from(text), fds, MSG_DONTWAIT)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return !isErrno(error, 'EAGAIN', 'ETOOMANYREFS', 'ENOBUFS', 'ENOMEM')
    }
    return true
  }
}

function left(env: NodeJS.ProcessEnv): readonly Inherited[] {
  const { [LEFT]: raw } = env
  if (raw === undefined) return []
  delete env[LEFT]
  using list = new Fd(Number(raw))
  const fds = JSON.parse(readFileSync(`/proc/self/fd/${list.raw}`, 'utf8')) as readonly (readonly [string, number])[]
  return fds.map(([name, each]) => {
    setCloexec(each)
    return { name, fd: new Fd(each) }
  })
}

function inherit(env: NodeJS.ProcessEnv): readonly Inherited[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names = '' } = env
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']) delete env[name]
  if (pid !== String(process.pid)) return []
  const all = names.split(':')
  return Array.from({ length: Number(count) }, (_, index) => {
    setCloexec(FIRST + index)
    return { name: all[index] ?? '', fd: new Fd(FIRST + index) }
  })
}
