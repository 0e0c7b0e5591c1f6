import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { capMask } from '../abi/capability.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP } from '../abi/seccomp.ts'
import { permittedMain } from '../calls/steps.ts'
import { build, requireBuild } from '../kernel/build.ts'
import { keepOnly } from '../kernel/credentials.ts'
import { EPOLLIN, Epoll, EpollEvent } from '../kernel/epoll.ts'
import { closeFrom, Fd, setCloexec } from '../kernel/fd.ts'
import { O_DIRECTORY, O_PATH, O_RDONLY, openat } from '../kernel/files.ts'
import { armInterrupts } from '../kernel/interrupt.ts'
import { cstring } from '../kernel/libc.ts'
import { exitGroup, SIGCONT, signalAtParentsDeath } from '../kernel/process.ts'
import { notifSetFlags } from '../kernel/seccomp.ts'
import { type Message, receive, send } from '../kernel/socket.ts'
import { Pool } from './pool/pool.ts'
import { decode, encode, MESSAGE_LIMIT, type ToEngine, type ToKeeper } from './protocol/messages.ts'
import { CONTROL_FD, type EngineOptions, JOURNAL_FD, PERSISTENT_FD } from './protocol/spawn-engine.ts'

/** The keeper ends an engine that does not give it for many times as long. */
const BEAT_MS = 1000

/** The engine process: its main thread hears the keeper and keeps the pool; it never touches a call. */
async function main(): Promise<void> {
  setCloexec(CONTROL_FD)
  setCloexec(JOURNAL_FD)
  setCloexec(PERSISTENT_FD)
  const options = JSON.parse(process.argv[2]!) as EngineOptions
  requireBuild(options.build)
  keepOnly(capMask(...permittedMain))
  // libuv's threads must be born at home, before any thread stands in a container: the first one starts the pool.
  await stat('/')
  armInterrupts()
  // Also one that is stopped must let the listeners go when the keeper is gone.
  signalAtParentsDeath(SIGCONT)
  const control = new Fd(CONTROL_FD)
  const tell = (message: ToKeeper, fds: readonly Fd[] = []): void => send(control, encode(message), fds)
  const fault = (message: string): void => tell({ type: 'fault', message })
  // Whatever it was about, a call may wait for it for ever: the next engine begins anew.
  const fail = ({ message }: Error): never => {
    try {
      fault(`The engine failed: ${message}`)
    } finally {
      exitGroup(1)
    }
  }
  process.on('uncaughtException', fail)
  const { threads, ...limits } = options
  const pool = new Pool({
    threads,
    epoll: new Epoll(),
    data: {
      ...limits,
      build,
      journal: JOURNAL_FD,
      persistent: PERSISTENT_FD,
      control: CONTROL_FD,
      processors: availableParallelism(),
      hostRoot: openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY).raw,
      mounts: openat(AT_FDCWD, cstring('/proc/self/ns/mnt'), O_RDONLY).raw,
      proc: openat(AT_FDCWD, cstring('/proc'), O_PATH | O_DIRECTORY).raw,
      descriptors: openat(AT_FDCWD, cstring('/proc/self/fd'), O_PATH | O_DIRECTORY).raw,
    },
    onReady: (ready) => tell({ type: 'ready', threads: ready }),
    onGone: (listener) => tell({ type: 'gone', listener }),
    onHalfFull: () => tell({ type: 'halfFull' }),
    onFault: fault,
    onMounter: ({ socket, pidfd }) => tell({ type: 'mounter' }, [socket, pidfd]),
    onWaited: (container) => tell({ type: 'waited', container }),
    onProgram: (container, end) => tell({ type: 'program', container, ...end }),
  })
  setInterval(() => pool.beat(), BEAT_MS)
  hear(control, pool, fail)
}

/** Waits for the keeper's messages, for ever; the engine ends with the keeper. */
function hear(control: Fd, pool: Pool, fail: (error: Error) => never): void {
  const epoll = new Epoll()
  epoll.add(control, EPOLLIN, [0, 0])
  const event = new EpollEvent()
  const bytes = new Uint8Array(MESSAGE_LIMIT)
  const next = (): void =>
    event.waitAsync(epoll.raw, () => {
      for (let message = take(control, bytes); message; message = take(control, bytes)) {
        if (message.length === 0) end()
        if (message.truncated) fail(new Error('no descriptor is free for what it shall serve (RLIMIT_NOFILE)'))
        try {
          obey(pool, decode(bytes.subarray(0, message.length)), message.fds)
        } catch (error) {
          fail(error as Error)
        }
      }
      next()
    })
  next()
}

/** The next message; a keeper that ended with something of ours unread (ECONNRESET) ended all the same. */
function take(control: Fd, bytes: Uint8Array): Message | undefined {
  try {
    return receive(control, bytes)
  } catch {
    return end()
  }
}

/**
 * The keeper is gone. A thread that hangs in a file system of a container keeps this process, and with it the descriptors,
 * for ever: so they are closed first, and the calls of all other containers fail at once (ENOSYS) instead of waiting.
 */
function end(): never {
  closeFrom(CONTROL_FD)
  return exitGroup(0)
}

function obey(pool: Pool, message: ToEngine, fds: readonly Fd[]): void {
  if (message.type === 'kept') pool.take(message.places, fds)
  else if (message.type === 'inherit') pool.inherit(message.failed)
  else if (message.type === 'all') pool.settle()
  else if (message.type === 'container') pool.announce(message, fds)
  else if (message.type === 'forget') pool.forget(message.container)
  else if (message.type === 'mounter') pool.takeOverMounter(fds[0]!, fds[1]!)
  else if (message.type === 'monitor') pool.listen(message.listener, message.container, fds[0]!, true)
  else {
    // Matters more than anything else for speed: the caller is woken on the processor of the thread that answers.
    const fd = fds[0]!
    notifSetFlags(fd.raw, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    pool.listen(message.listener, message.container, fd)
  }
}

await main()
