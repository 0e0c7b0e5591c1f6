import { errnos } from '../abi/errno.ts'
import { SyscallError } from '../kernel/error.ts'
import { dup, Fd, setCloexec } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import { connectDatagram, MSG_DONTWAIT, send } from '../kernel/socket.ts'

/** Where descriptors begin that systemd passes on, SD_LISTEN_FDS_START of sd-daemon.h. */
const FIRST = 3
/** When the queue of its socket is full. */
const RETRY_MS = 5

/** A descriptor that came from the service manager. */
export interface Inherited {
  readonly name: string
  readonly fd: Fd
}

/** What the service manager, which is systemd, has for a service, and hears from it. @see sd_notify(3), sd_listen_fds(3) */
export class ServiceManager {
  /** Sockets of its units, and what an earlier process of the service stored; owned by whoever takes them. */
  readonly inherited: readonly Inherited[]
  readonly #socket: Fd | undefined
  readonly #hasWatchdog: boolean
  readonly #queue: { readonly text: string; readonly fds: readonly Fd[] }[] = []

  /** @param env of the process, from which is removed what is for this process only */
  constructor(env: NodeJS.ProcessEnv) {
    this.inherited = inherit(env)
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog, WATCHDOG_PID: watched } = env
    this.#socket = socket ? connectDatagram(socket) : undefined
    this.#hasWatchdog = watchdog !== undefined && (watched === undefined || watched === String(process.pid))
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name]
  }

  get isThere(): boolean {
    return this.#socket !== undefined
  }

  /** @param status one line for `systemctl status` */
  ready(status: string): void {
    this.#tell(`READY=1\nSTATUS=${status}`)
  }

  status(status: string): void {
    this.#tell(`STATUS=${status}`)
  }

  stopping(): void {
    this.#tell('STOPPING=1')
  }

  /** To be called once a second. */
  alive(): void {
    if (this.#hasWatchdog) this.#tell('WATCHDOG=1')
  }

  /** Gives it copies of descriptors, which the next process of the service gets; it stores none twice. */
  store(name: string, fds: readonly Handle[]): void {
    this.#tell(`FDSTORE=1\nFDPOLL=0\nFDNAME=${name}`, fds)
  }

  /** It shall close all that were stored under that name. */
  remove(name: string): void {
    this.#tell(`FDSTOREREMOVE=1\nFDNAME=${name}`)
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

  /** @returns false if there is no room now; a manager that does not listen is no reason to end */
  #send(text: string, fds: readonly Handle[]): boolean {
    try {
      send(this.#socket!, Buffer.from(text), fds, MSG_DONTWAIT)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return error.errno !== errnos.EAGAIN && error.errno !== errnos.ETOOMANYREFS
    }
    return true
  }
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
