import { errnos } from '../abi/errno.ts'
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, POLLIN } from '../abi/socket.ts'
import { ignoring, SyscallError } from './error.ts'
import { Fd, type Handle, poll } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

/** `struct epoll_event`: u32 events, then u64 data; packed on x86 only. */
const DATA = process.arch === 'x64' ? 4 : 8
const EVENT_SIZE = DATA + 8

const libcEpollCreate1 = libc.func('int epoll_create1(int flags)')
const libcEpollCtl = libc.func('int epoll_ctl(int epoll, int operation, int fd, uint8_t *event)')
const libcEpollWait = libc.func('int epoll_wait(int epoll, uint8_t *events, int count, int timeout)')

/** An epoll set. Any thread may change it while another thread waits in it. */
export class Epoll implements Disposable {
  readonly #fd: Fd

  constructor(fd: Fd = new Fd(check('epoll_create1', libcEpollCreate1(EPOLL_CLOEXEC)))) {
    this.#fd = fd
  }

  get raw(): number {
    return this.#fd.raw
  }

  /**
   * Returns whether any descriptor is ready, by poll(2) and not by epoll_wait(2), which hands out ready descriptors in
   * turn (fs/eventpoll.c ep_send_events()): a descriptor whose event is not served would lose its turn, and of two that
   * are always ready it might always be the same one.
   */
  get isReady(): boolean {
    return poll(this.#fd.raw, POLLIN, 0) !== 0
  }

  /** Adds a descriptor. @param token two 32-bit numbers that come back with each event */
  add(fd: Handle, events: number, token: readonly [number, number]): void {
    this.#control(EPOLL_CTL_ADD, fd.raw, events, token)
  }

  /** Changes the events of a descriptor; ignores a descriptor that was removed meanwhile. */
  modify(fd: number, events: number, token: readonly [number, number]): void {
    ignoring(['ENOENT'], () => this.#control(EPOLL_CTL_MOD, fd, events, token))
  }

  /** Removes a descriptor; ignores a descriptor that is gone already. */
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

/** Waits for one event at a time: level-triggered epoll hands out the ready descriptors in turn. */
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
   * @param timeout milliseconds; -1 for none
   * @returns false after the time-out or a signal
   */
  wait(epoll: number, timeout: number): boolean {
    return settled(libcEpollWait(epoll, this.#bytes, 1, timeout))
  }

  /** Waits on a thread of libuv's pool, for a main thread that must go on. */
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
