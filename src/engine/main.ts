import '../processes/program-flags.ts'
import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { capMask } from '../abi/credentials.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { SIGCONT } from '../abi/process.ts'
import { SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP } from '../abi/seccomp.ts'
import { EPOLLIN } from '../abi/socket.ts'
import { permittedMain } from '../calls/steps.ts'
import { joinEmptyKeyring, keepOnly } from '../kernel/credentials.ts'
import { Epoll, EpollEvent } from '../kernel/epoll.ts'
import { closeFrom, Fd, setCloexec } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { armInterrupts, exitGroup, setPlainPersonality, signalAtParentsDeath } from '../kernel/process.ts'
import { notifSetFlags } from '../kernel/seccomp.ts'
import { type Message, receive, send } from '../kernel/socket.ts'
import { decode, encode, MESSAGE_LIMIT, type ToEngine, type ToKeeper } from '../link/messages.ts'
import {
  CONTROL_FD,
  COUNTS_FD,
  type EngineOptions,
  JOURNAL_FD,
  PERSISTENT_FD,
  RECORDS_FD,
} from '../link/spawn-engine.ts'
import { build, requireBuild } from '../processes/build-id.ts'
import { firstWorker as first } from './pool/first-worker.ts'
import { Pool } from './pool/pool.ts'

/** The interval of the heartbeat; the keeper ends an engine without a beat for ten times as long. */
const BEAT_MS = 1000

/** Runs the engine: this main thread receives the keeper's messages and manages the pool; it never serves a call. */
async function main(): Promise<void> {
  setCloexec(CONTROL_FD)
  setCloexec(JOURNAL_FD)
  setCloexec(PERSISTENT_FD)
  setCloexec(RECORDS_FD)
  setCloexec(COUNTS_FD)
  const options = JSON.parse(process.argv[2]!) as EngineOptions
  requireBuild(options.build)
  keepOnly(capMask(...permittedMain))
  // Threads and helpers work for containers: the session keyring and personality of whoever started us must not apply
  // to them.
  joinEmptyKeyring()
  setPlainPersonality()
  // The first asynchronous call starts libuv's threads. They must start before any thread is inside a container,
  // because a new thread has its creator's credentials, namespaces and root.
  await stat('/')
  armInterrupts()
  // SIGCONT also wakes a stopped engine, which must close the listeners when the keeper is gone.
  signalAtParentsDeath(SIGCONT)
  const control = new Fd(CONTROL_FD)
  const tell = (message: ToKeeper, fds: readonly Fd[] = []): void => send(control, encode(message), fds)
  const fault = (message: string): void => tell({ type: 'fault', message })
  // A call may wait for ever because of what failed here, so this engine ends and the next one takes over.
  const fail = ({ message }: Error): never => {
    try {
      fault(`The engine failed: ${message}`)
    } finally {
      exitGroup(1)
    }
  }
  process.on('uncaughtException', fail)
  // A kill is no failure: the next engine goes on with the calls of those that live.
  const onStranded = (why: string): void => {
    fault(`The engine is replaced: ${why}`)
    process.kill(process.pid, 'SIGKILL')
  }
  const { threads, ...limits } = options
  const pool = new Pool({
    threads,
    first,
    epoll: new Epoll(),
    data: threadData(limits),
    onStranded,
    ...reports(tell, fault),
  })
  setInterval(() => pool.beat(), BEAT_MS)
  hear(control, pool, fail)
}

/** Obeys the keeper's messages until the keeper ends; then the engine ends too. */
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

/** Receives a message. If the keeper exited with messages of ours unread, ECONNRESET takes the place of end of file. */
function take(control: Fd, bytes: Uint8Array): Message | undefined {
  try {
    return receive(control, bytes)
  } catch {
    return end()
  }
}

/**
 * Ends the engine when the keeper is gone. A thread that hangs in a container's file system keeps the process, and
 * with it the descriptors, for ever. So the listeners are closed first: the calls of all other containers then fail
 * with ENOSYS at once, instead of waiting.
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
  else if (message.type === 'policy') pool.change(message.container, message.said)
  else if (message.type === 'mounter') pool.takeOverMounter(fds[0]!, fds[1]!)
  else if (message.type === 'monitor') pool.listen(message.listener, message.container, fds[0]!, true)
  else {
    // This flag matters most for speed: the kernel wakes the caller on the processor of the thread that answers.
    const fd = fds[0]!
    notifSetFlags(fd.raw, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    pool.listen(message.listener, message.container, fd, false, message.by)
  }
}

type PoolOptions = ConstructorParameters<typeof Pool>[0]

/** Opens what all serving threads share, besides what the pool makes. */
const threadData = (limits: Pick<EngineOptions, 'calls' | 'callsPerContainer' | 'arguments'>): PoolOptions['data'] => ({
  ...limits,
  build,
  journal: JOURNAL_FD,
  persistent: PERSISTENT_FD,
  records: RECORDS_FD,
  counts: COUNTS_FD,
  control: CONTROL_FD,
  processors: availableParallelism(),
  hostRoot: openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY).raw,
  mounts: openat(AT_FDCWD, cstring('/proc/self/ns/mnt'), O_RDONLY).raw,
  proc: openat(AT_FDCWD, cstring('/proc'), O_PATH | O_DIRECTORY).raw,
  descriptors: openat(AT_FDCWD, cstring('/proc/self/fd'), O_PATH | O_DIRECTORY).raw,
})

const reports = (
  tell: (message: ToKeeper, fds?: readonly Fd[]) => void,
  onFault: PoolOptions['onFault'],
): Omit<PoolOptions, 'threads' | 'first' | 'epoll' | 'data' | 'onStranded'> => ({
  onFault,
  onReady: () => tell({ type: 'ready' }),
  onGone: (listener) => tell({ type: 'gone', listener }),
  onHalfFull: () => tell({ type: 'halfFull' }),
  onMounter: ({ socket, pidfd }) => tell({ type: 'mounter' }, [socket, pidfd]),
  onPolicy: (container) => tell({ type: 'policyHolds', container }),
  onWaited: ({ index, serial }) => tell({ type: 'waited', container: { index, serial } }),
  onProgram: ({ index, serial }, end) => tell({ type: 'program', container: { index, serial }, ...end }),
})

main()
