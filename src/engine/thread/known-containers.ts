import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import type { Tid } from '../../abi/brand.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { ToThread } from './thread-messages.ts'

const UNKNOWN: Container = {
  index: 0,
  serial: 0,
  id: '',
  policy: {},
  uidMap: [],
  gidMap: [],
  userns: 0n,
  initTid: 0 as Tid,
  startedMs: 0,
  waitKillable: false,
  barred: 'unknownContainer',
}

/** Keeps the containers that one thread knows from the main thread's messages. */
export class KnownContainers {
  readonly #port: MessagePort
  readonly #all: (Container | undefined)[] = []
  #epoch = -1

  constructor(port: MessagePort) {
    this.#port = port
  }

  /** Returns a container; an unknown container is barred, so all of its calls are continued. */
  containerAt(index: number): Container {
    return this.#all[index] ?? UNKNOWN
  }

  /**
   * Reads new messages.
   *
   * @param epoch `Leadership.epoch`, which the main thread raises after each message
   * @returns false if there was none since the last time
   */
  hear(epoch: number): boolean {
    if (epoch === this.#epoch) return false
    this.#epoch = epoch
    for (let heard = receiveMessageOnPort(this.#port); heard; heard = receiveMessageOnPort(this.#port)) {
      const message = heard.message as ToThread
      if ('container' in message) this.#all[message.container.index] = message.container
      else this.#all[message.forget] = undefined
    }
    return true
  }
}
