import { dup, type Fd } from '../../kernel/fd.ts'
import { stampMessages } from '../../kernel/socket.ts'
import { type RuntimeCall, runtimeOf } from '../../runtimes/exec.ts'
import type { Handover } from '../../runtimes/handover.ts'
import { readContainer } from '../../runtimes/lxc.ts'
import { OciConnection } from '../../runtimes/oci.ts'
import type { KeptSocket, PersistedState } from '../persist/persisted-state.ts'
import type { KeeperOptions } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { listenExclusively } from './listen.ts'
import { Acceptor, type AcceptorOptions, type Connection } from './listen-socket.ts'

/**
 * Takes what was handed over with a container: a listener, or the connection of a monitor of LXC, which forwards calls. It
 * owns the descriptor, also if it throws.
 */
export type Register = (handover: Handover, fd: Fd, type: 'listener' | 'monitor', runtime?: RuntimeCall) => void

interface Places extends Pick<KeeperOptions, 'socketPath' | 'lxcSocketPath'> {
  /**
   * Of each socket. crun connects when it creates a container, and is silent until that is started; a monitor of LXC until
   * its container makes its first call.
   */
  readonly limit: number
}

/** Opens the sockets of the daemon: all, or none. @throws {Error} if one is in use */
export function openSockets(
  reactor: Reactor,
  { socketPath, lxcSocketPath, limit }: Places,
  register: Register,
  refuse: (message: string) => void,
  state: PersistedState,
): readonly Acceptor[] {
  const doors: Acceptor[] = []
  const open = (name: string, options: Omit<AcceptorOptions, 'refuse' | 'socket'>): Acceptor => {
    const door = new Acceptor(reactor, { ...options, refuse, socket: socketOf(name, options, state) })
    doors.push(door)
    return door
  }
  // At once: what it is can be seen only as long as it is there, and it is gone when its container is started.
  const enter = (fd: Fd): Connection => runtime(fd, runtimeOf(fd), register, state)
  try {
    const oci = open('oci', { path: socketPath, type: 'stream', limit, enter })
    for (const { fd, runtime: kept } of state.connections()) oci.admit(runtime(fd, kept, register, state), fd)
    if (lxcSocketPath !== undefined)
      open('lxc', { path: lxcSocketPath, type: 'packet', limit, enter: (fd) => monitor(fd, register) })
    return doors
  } catch (error) {
    for (const door of doors) door.close()
    throw error
  }
}

/** One that is there already; else a new one, which is there for the next of us. @throws {Error} if it is in use */
const socketOf = (
  name: string,
  { path, type }: Pick<AcceptorOptions, 'path' | 'type'>,
  state: PersistedState,
): KeptSocket => state.socket(name) ?? state.keepSocket(name, listenExclusively(path, type))

/** Hands over one listener. */
function runtime(fd: Fd, caller: RuntimeCall | undefined, register: Register, state: PersistedState): Connection {
  const connection = new OciConnection(fd)
  const forget = state.keepConnection(fd, caller)
  return {
    get isMidway() {
      return connection.isMidway
    },
    hear() {
      const progress = connection.read()
      if (progress) register(progress.handover, progress.listener, 'listener', caller)
      return progress !== undefined
    },
    [Symbol.dispose]() {
      forget()
      connection[Symbol.dispose]()
      caller?.mounts?.[Symbol.dispose]()
    },
  }
}

/** Says with its first message whose calls it forwards; from then on the connection is the engine's. */
function monitor(fd: Fd, register: Register): Connection {
  stampMessages(fd)
  return {
    // It is looked at without being taken until all of it is there.
    isMidway: false,
    hear() {
      const handover = readContainer(fd)
      if (handover !== undefined && handover !== 'gone') register(handover, dup(fd), 'monitor')
      return handover !== undefined
    },
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  }
}
