import { setTimeout as sleep } from 'node:timers/promises'
import { AT_FDCWD, O_PATH } from '../../abi/fcntl.ts'
import { SIGKILL } from '../../abi/process.ts'
import { sendToMounter } from '../../caller/mounts/mounter-client.ts'
import { now, processTime } from '../../kernel/clock.ts'
import { orElse } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { openat } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { numberOf, pidfdOpen, releaseMemory, signalTo } from '../../kernel/pidfd.ts'
import { SleepTime } from '../../kernel/process.ts'
import { receive, shutdown, socketpair, waitReadable } from '../../kernel/socket.ts'
import { requireOwnFiles } from '../../processes/build-id.ts'
import { nodeProgram } from '../../processes/node-programs.ts'
import { processCaps } from '../../processes/process-caps.ts'
import { limitedTo, type StartHelper } from './spawn-guard.ts'

const REPLY_LIMIT = 256
/** The pause between two looks for the answer to a greeting grows with the elapsed time, up to `LATE_MS`. */
const SOON_MS = 1
const LATE_MS = 20
const GROWTH = 0.05
/** Milliseconds between two looks at what a mounter does, and how long it may take in all, however slow it is. */
const LOOK_MS = 200
const LONGEST_MS = 60_000

interface MounterStart {
  readonly start: StartHelper
  readonly onEnd: () => void
  readonly onError: (error: Error) => void
}

/** One mounter as the engine sees it: this engine has started it, or taken it over from the previous engine. */
export class MounterProcess {
  /** The mounter serves the requests of this socket in their order, and exits at end of file. */
  readonly socket: Fd
  readonly pidfd: Fd

  readonly #pid: number

  constructor(socket: Fd, pidfd: Fd) {
    this.socket = socket
    this.pidfd = pidfd
    this.#pid = numberOf(pidfd)
  }

  /**
   * Starts a mounter.
   *
   * @returns undefined if that fails; `onError` then has the error
   * @throws {Error} if our program's files were replaced: the error ends this engine
   */
  static start({ start, onEnd, onError }: MounterStart): MounterProcess | undefined {
    requireOwnFiles()
    let socket: Fd | undefined
    try {
      const [ours, theirs] = socketpair()
      socket = ours
      using end = theirs
      const { node, flags, main, build, how } = nodeProgram('mounter')
      const command = [...limitedTo(processCaps.mounter.permitted), node, ...flags, main, build] as const
      const child = start(command, how, [end])
      void child.ended.then(onEnd)
      return new MounterProcess(ours, pidfdOpen(child.pid))
    } catch (error) {
      onError(error as Error)
    }
    socket?.[Symbol.dispose]()
    return undefined
  }

  get hasEnded(): boolean {
    return waitReadable(this.pidfd, 0)
  }

  /** Its processor time in milliseconds; 0 once it has ended. */
  get processorTime(): number {
    return this.hasEnded ? 0 : processTime(this.#pid)
  }

  /**
   * Waits until the mounter has served all its requests.
   *
   * @param patience how long it may sleep, in milliseconds: what it works, or waits for a processor, does not count
   * @param closing descriptors that the mounter must close, because that may take long; our copies are closed here
   * @returns whether the mounter was done in time
   * @throws {SyscallError} if the request cannot be sent: then nothing is closed
   */
  async comesFree(patience: number, closing: readonly Fd[] = []): Promise<boolean> {
    using answers = sendToMounter(this.socket, { do: 'greet' }, closing)
    for (const fd of closing) fd[Symbol.dispose]()
    return await isAnswered(answers, patience, this.#pid)
  }

  /**
   * Lets the mounter exit after its last request; the shutdown works although the keeper holds a copy of the socket.
   */
  close(): void {
    shutdown(this.socket)
    this.socket[Symbol.dispose]()
  }

  /** @returns whether it has no memory any more: if it hangs it has, before Linux 5.15, until the kernel lets it end */
  kill(): boolean {
    signalTo(this.pidfd, SIGKILL)
    return releaseMemory(this.pidfd)
  }
}

async function isAnswered(socket: Handle, patience: number, pid: number): Promise<boolean> {
  const begin = now()
  using proc = openat(AT_FDCWD, cstring('/proc'), O_PATH)
  const sleepTime = new SleepTime(proc, pid)
  for (let looked = 0; !waitReadable(socket, 0); ) {
    const passed = now() - begin
    if (passed - looked > LOOK_MS) {
      looked = passed
      if (sleepTime.look() > patience || passed > LONGEST_MS) return false
    }
    await sleep(Math.min(SOON_MS + GROWTH * passed, LATE_MS))
  }
  return orElse(false, () => (receive(socket, new Uint8Array(REPLY_LIMIT))?.length ?? 0) > 0)
}
