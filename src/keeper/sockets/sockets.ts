import { dup, type Fd } from '../../kernel/fd.ts'
import { peerCredentials, stampMessages } from '../../kernel/socket.ts'
import { type RuntimeCall, runtimeOf, stateDirectoryOf } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { InitLook } from '../../runtimes/inspect.ts'
import { readContainer } from '../../runtimes/lxc.ts'
import { OciConnection } from '../../runtimes/oci.ts'
import { recordedRuntime } from '../../runtimes/recorded.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { KeeperOptions } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { Acceptor, type AcceptorOptions, type Connection, type Refuse } from './listen-socket.ts'

/** Who handed over, as far as it is known. */
interface Giver {
  readonly runtime?: RuntimeCall | undefined
  /** The number of the process that has connected. */
  readonly by?: number
  /** The connection, which closes when the container is served: its program may wait for that. */
  readonly connection?: Fd | undefined
  readonly look?: InitLook
}

/**
 * Takes a hand-over with its descriptor: a listener, or the connection of a monitor of LXC, which forwards calls. The
 * function owns the descriptor, even if it throws.
 */
export type Register = (handover: Handover, fd: Fd, type: 'listener' | 'monitor', giver?: Giver) => void

interface Places extends Pick<KeeperOptions, 'socketPath' | 'lxcSocketPath'> {
  /**
   * The most connections of each socket that have not handed over. crun connects when it creates a container, and is
   * silent until the container is started; a monitor of LXC is silent until the first call of its container.
   */
  readonly limit: number
}

/** Opens all sockets of the daemon, or none. @throws {Error} if a socket is in use */
export function openSockets(
  reactor: Reactor,
  { socketPath, lxcSocketPath, limit }: Places,
  register: Register,
  refuse: Refuse,
  state: PersistedState,
): readonly Acceptor[] {
  const acceptors: Acceptor[] = []
  const open = (options: Pick<AcceptorOptions, 'name' | 'path' | 'type' | 'enter'>): Acceptor => {
    const acceptor = new Acceptor({ ...options, reactor, state, limit, refuse })
    acceptors.push(acceptor)
    return acceptor
  }
  // The runtime is inspected at once, because it exits when its container starts.
  const enter = (fd: Fd): Connection => runtime(fd, runtimeOf(fd), register, state)
  try {
    const oci = open({ name: 'oci', path: socketPath, type: 'stream', enter })
    for (const { fd, runtime: kept } of state.connections((message) => refuse(message, 'failed')))
      oci.admit(runtime(fd, kept, register, state), fd)
    if (lxcSocketPath !== undefined)
      open({ name: 'lxc', path: lxcSocketPath, type: 'packet', enter: (fd) => monitor(fd, register) })
    return acceptors
  } catch (error) {
    for (const acceptor of acceptors) acceptor.close()
    throw error
  }
}

/** A connection of a runtime, which hands over one listener. */
function runtime(fd: Fd, caller: RuntimeCall | undefined, register: Register, state: PersistedState): Connection {
  const connection = new OciConnection(fd)
  const place = caller && stateDirectoryOf(caller)
  const forget = state.keepConnection(fd, caller)
  return {
    get isMidway() {
      return connection.isMidway
    },
    hear() {
      const progress = connection.read()
      if (progress) {
        const handover = { ...progress.handover, ...(place === undefined ? {} : { place }) }
        register(handover, progress.listener, 'listener', {
          // A busy machine may have looked too late.
          runtime: caller ?? recordedRuntime(progress.handover),
          by: peerCredentials(fd).pid,
          connection: fd,
        })
      }
      return progress !== undefined
    },
    [Symbol.dispose]() {
      forget()
      connection[Symbol.dispose]()
      caller?.mounts?.[Symbol.dispose]()
    },
  }
}

/** A connection of a monitor of LXC. Its first message names the container; then the engine reads the connection. */
function monitor(fd: Fd, register: Register): Connection {
  stampMessages(fd)
  return {
    // We peek at the first message, which stays in the socket until all of it has arrived.
    isMidway: false,
    hear() {
      const handover = readContainer(fd)
      if (handover !== undefined && handover !== 'gone') register(handover, dup(fd), 'monitor')
      return handover !== undefined
    },
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  }
}
