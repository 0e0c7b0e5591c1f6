import { EPOLLIN } from '../../abi/socket.ts'
import { Epoll, EpollEvent } from '../../kernel/epoll.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { socketpair } from '../../kernel/socket.ts'

/**
 * Calls back when a descriptor becomes readable that Node itself cannot watch, such as a socket that receives
 * descriptors. The reactor waits in epoll_wait(2) on a thread of libuv's pool.
 */
export class Reactor {
  readonly #epoll = new Epoll()
  readonly #event = new EpollEvent()
  readonly #watched = new Map<number, { readonly raw: number; readonly ready: () => void }>()
  /** Closing one end wakes the waiting thread, which then closes the epoll descriptor. */
  readonly #wake: [Fd, Fd] = socketpair()
  #token = 1

  constructor() {
    this.#epoll.add(this.#wake[0], EPOLLIN, [0, 0])
    this.#next()
  }

  /** Calls `ready` while `fd` is readable. @returns a function that ends this, to be called before `fd` is closed */
  watch(fd: Handle, ready: () => void): () => void {
    const token = this.#token++
    const { raw } = fd
    this.#watched.set(token, { raw, ready })
    this.#epoll.add(fd, EPOLLIN, [token, 0])
    return () => {
      if (this.#watched.delete(token)) this.#epoll.remove(raw)
    }
  }

  close(): void {
    this.#watched.clear()
    this.#wake[1][Symbol.dispose]()
  }

  #next(): void {
    this.#event.waitAsync(this.#epoll.raw, (ready) => {
      const { token } = this.#event
      if (ready && token === 0) {
        this.#epoll[Symbol.dispose]()
        this.#wake[0][Symbol.dispose]()
        return
      }
      if (ready) this.#watched.get(token)?.ready()
      this.#next()
    })
  }
}
