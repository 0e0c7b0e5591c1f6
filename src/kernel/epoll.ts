import { errnos } from '../abi/errno.ts'
import { SyscallError } from './error.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'
import { POLLIN, poll } from './poll.ts'

export const EPOLLIN = 0x001
export const EPOLLERR = 0x008
export const EPOLLHUP = 0x010

const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
const EPOLL_CTL_MOD = 3

/** `struct epoll_event`: u32 events, then u64 data; packed on x86 only. */
const DATA = process.arch === 'x64' ? 4 : 8
const EVENT_SIZE = DATA + 8

const libcEpollCreate1 = libc.func('int epoll_create1(int flags)')
const libcEpollCtl = libc.func('int epoll_ctl(int epoll, int operation, int fd, uint8_t *event)')
const libcEpollWait = libc.func('int epoll_wait(int epoll, uint8_t *events, int count, int timeout)')

/** The kernel's set of watched descriptors. Changing it is allowed while another thread waits in it. */
export class Epoll implements Disposable {
  readonly #fd: Fd

  constructor(fd: Fd = new Fd(check('epoll_create1', libcEpollCreate1(EPOLL_CLOEXEC)))) {
    this.#fd = fd
  }

  get raw(): number {
    return this.#fd.raw
  }

  /**
   * Is anything ready? A look that takes no turn: epoll_wait(2) hands out what is ready in turn, so one whose event nobody
   * serves has lost its turn (fs/eventpoll.c ep_send_events()), and of two that are always ready it may be always the same.
   */
  get isReady(): boolean {
    return poll(this.#fd.raw, POLLIN, 0) !== 0
  }

  /** @param token two numbers of 32 bits that come back with each event */
  add(fd: Handle, events: number, token: readonly [number, number]): void {
    this.#control(EPOLL_CTL_ADD, fd.raw, events, token)
  }

  /** A descriptor that was removed meanwhile is no error. */
  modify(fd: number, events: number, token: readonly [number, number]): void {
    try {
      this.#control(EPOLL_CTL_MOD, fd, events, token)
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errnos.ENOENT) throw error
    }
  }

  /** A descriptor that is gone already is no error. */
  remove(fd: number): void {
    libcEpollCtl(this.raw, EPOLL_CTL_DEL, fd, new Uint8Array(EVENT_SIZE))
  }

  #control(operation: number, fd: number, events: number, token: readonly [number, number]): void {
    const event = new DataView(new ArrayBuffer(EVENT_SIZE))
    event.setUint32(0, events >>> 0, true)
    event.setUint32(DATA, token[0], true)
    event.setUint32(DATA + 4, token[1], true)
    check('epoll_ctl', libcEpollCtl(this.raw, operation, fd, new Uint8Array(event.buffer)))
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]()
  }
}

/** One event at a time, in memory of its own: level-triggered epoll hands the ready ones out in turn. */
export class EpollEvent {
  readonly #bytes = new Uint8Array(EVENT_SIZE)
  readonly #view = new DataView(this.#bytes.buffer)

  get events(): number {
    return this.#view.getUint32(0, true)
  }

  get token(): number {
    return this.#view.getUint32(DATA, true)
  }

  get generation(): number {
    return this.#view.getUint32(DATA + 4, true)
  }

  /**
   * Blocks until something is ready.
   *
   * @param timeout milliseconds, or -1
   * @returns false after the time-out or a signal
   */
  wait(epoll: number, timeout: number): boolean {
    return settled(libcEpollWait(epoll, this.#bytes, 1, timeout))
  }

  /** As `wait`, on a thread of libuv's pool: for a main thread that must go on. */
  waitAsync(epoll: number, done: (ready: boolean) => void): void {
    libcEpollWait.async(epoll, this.#bytes, 1, -1, (error: Error | null, result: number) => {
      if (error) throw error
      done(settled(result))
    })
  }
}

function settled(result: number): boolean {
  if (result >= 0) return result > 0
  const errno = lastErrno()
  if (errno === errnos.EINTR) return false
  throw new SyscallError('epoll_wait', errno)
}
