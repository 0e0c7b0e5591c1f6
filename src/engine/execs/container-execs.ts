import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HostId, Tid } from '../../abi/brand.ts'
import { type IdExtent, toOutside } from '../../abi/credentials.ts'
import { AT_FDCWD, O_RDWR } from '../../abi/fcntl.ts'
import type { Container, ContainerNumbers } from '../../caller/identity/container.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { countedForNobody } from '../../kernel/credentials.ts'
import { orElse } from '../../kernel/error.ts'
import { type Fd, type Handle, orClose, pipe, setNonblocking } from '../../kernel/fd.ts'
import { linkOf, openat } from '../../kernel/files.ts'
import { runAs, runningOf } from '../../kernel/sched.ts'
import { textFile } from '../../kernel/shared-memory.ts'
import { poolShare } from '../../link/limits.ts'
import type { ProgramEnd } from '../../link/messages.ts'
import { type Child, shellStatus } from '../../processes/child.ts'
import type { StartProgram } from '../helpers/spawn-guard.ts'
import { ExecAnswer, type ExecRequest } from './exec-job.ts'
import { killTree } from './kill-tree.ts'

/** How many of the last bytes of the output are kept. */
const KEPT = 4096
/** How many bytes are read without a pause. Then the program waits at its full pipe for `PAUSE_MS`. */
const READ = 256 * 1024
const PAUSE_MS = 50
const LAST_MS = 500

/**
 * Makes a pipe whose writing end can read, too: whoever has it is never ended by SIGPIPE, when nobody else reads.
 */
function pipeForOutput(): ReturnType<typeof pipe> {
  const { read, write } = pipe()
  using once = write
  return { read, write: orClose([read], () => openat(AT_FDCWD, linkOf(once), O_RDWR)) }
}

/** Keeps the last bytes that a program in a container writes to a pipe. */
class OutputTail {
  /** The program's end of the pipe. */
  readonly writer: Fd
  readonly #socket: Socket
  #kept = Buffer.alloc(0)
  #read = 0

  constructor() {
    const { read, write } = countedForNobody(pipeForOutput)
    this.writer = write
    this.#socket = new Socket({ fd: read.release(), readable: true, writable: false })
    this.#socket.on('data', (chunk: Buffer) => this.#keep(chunk))
    this.#socket.on('error', () => this.close())
  }

  /** Returns the kept output, with control characters replaced, which a terminal or a log would interpret. */
  get text(): string {
    return this.#kept
      .toString()
      .replaceAll(/[^\P{C}\n\t]/gu, '?')
      .trim()
  }

  /** Returns the output at end of file, or after `LAST_MS`, since descendants of the program may keep the pipe open. */
  async last(): Promise<string> {
    this.writer[Symbol.dispose]()
    const ended = new Promise((resolve) => this.#socket.once('close', resolve))
    await Promise.race([ended, sleep(LAST_MS)])
    return this.text
  }

  /**
   * Keeps nothing more of a program that goes on. Nobody empties its pipe any more, not even the next engine, so a full
   * pipe refuses what it writes (EAGAIN).
   */
  letGo(): void {
    setNonblocking(this.writer.raw)
    this.close()
  }

  close(): void {
    this.writer[Symbol.dispose]()
    this.#socket.destroy()
  }

  #keep(chunk: Buffer): void {
    this.#read += chunk.length
    this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-KEPT)
    if (this.#read < READ) return
    this.#read = 0
    this.#socket.pause()
    setTimeout(() => this.#socket.resume(), PAUSE_MS)
  }
}

/** How many programs may be starting at once, on the host and per container; a thread waits for each. */
export const STARTING = 8
export const STARTING_PER_CONTAINER = 4
/** How many more may wait for their turn, on the host and per container; a thread waits for each of these, too. */
export const WAITING = 8
export const WAITING_PER_CONTAINER = 1
const TURN_MS = 5000
/** How many programs a container may have at once, starting or serving: each has a listener. */
export const PROGRAMS_PER_CONTAINER = 64
/** How long the listener of a failed program may take to arrive after the program. */
const LATE_MS = 10_000

interface Wish extends ExecRequest {
  readonly container: Container
  readonly reply: ExecAnswer
  readonly timer: NodeJS.Timeout
}

/** A program with its listener, which arrives through the keeper. */
interface Program {
  readonly container: number
  /** The pid of the runtime that hands over the listener. */
  readonly pid: number
  hasFailed: boolean
  listener: number | undefined
}

interface Started {
  readonly container: Container
  readonly name: string
  readonly program: Program
  readonly child: Child
  readonly words: OutputTail
  readonly ended: Promise<number>
  readonly reply: ExecAnswer
}

interface ExecDependencies {
  readonly start: StartProgram
  /** Stops serving a listener, although tasks may be left. */
  readonly drop: (listener: number) => void
  readonly onProgram: (container: ContainerNumbers, end: ProgramEnd) => void
  readonly onFault: (message: string) => void
}

/**
 * Starts programs in containers with the runtime's own `exec`, in the main thread. So a program gets everything that
 * the runtime gives its containers, such as the seccomp filter. From us it gets only the pipes of its standard streams.
 * From its caller it gets processors, priorities and timer slack.
 *
 * The runtime hands over a listener for each program. The listener is closed when the program fails. A process that the
 * program has left to the container's init, where we cannot find it, then is a normal process of the container, but its
 * calls are not served.
 */
export class ContainerExecs {
  readonly #dependencies: ExecDependencies
  readonly #started = new Map<string, Started>()
  /** Waiting requests, oldest first. */
  readonly #waiting = new Set<Wish>()
  /** The number of each container's last start, counted from 1. */
  readonly #starts = new Map<number, number>()
  #count = 0
  /** Containers whose last program could not be started: the log says so once. */
  readonly #unable = new Set<number>()
  /** The newest last: an older program may have had the same number. */
  readonly #programs = new Set<Program>()

  constructor(dependencies: ExecDependencies) {
    this.#dependencies = dependencies
  }

  /** Starts a program when its turn comes: the container with the fewest starting programs comes first. */
  start(container: Container | undefined, request: ExecRequest): void {
    const reply = new ExecAnswer(request.answer)
    if (!container?.exec || !this.#mayWait(container.index)) {
      reply.say('refused')
      return
    }
    const timer = setTimeout(() => this.#refuse(wish), TURN_MS)
    const wish: Wish = { ...request, container, reply, timer }
    this.#waiting.add(wish)
    this.#serve()
    if (this.#waiting.size > WAITING) this.#refuse(this.#last())
  }

  forget({ index }: ContainerNumbers): void {
    this.#starts.delete(index)
    this.#unable.delete(index)
  }

  /** A listener is served from now on. @param by the process that has handed it over, or 0 */
  listens(listener: number, container: number, by: number): void {
    const program = [...this.#programs].findLast((each) => each.pid === by && each.container === container)
    if (program?.listener !== undefined || !program) return
    program.listener = listener
    if (program.hasFailed) this.#dependencies.drop(listener)
  }

  /** A listener is closed: its number may be given to a listener of any container now. */
  listensNoMore(listener: number): void {
    for (const program of this.#programs) {
      if (program.listener !== listener) continue
      program.listener = undefined
      this.#programs.delete(program)
    }
  }

  /**
   * Ends a job.
   *
   * @param failed why; then the program is killed and the end of its output reported. undefined: the program may go on
   */
  over(job: string, failed: ReasonCode | undefined): void {
    const started = this.#started.get(job)
    if (!started) return
    this.#started.delete(job)
    this.#serve()
    const { child, words, program } = started
    if (program.listener === undefined) setTimeout(() => this.#giveUp(program), LATE_MS).unref()
    if (failed === undefined) {
      words.letGo()
      return
    }
    program.hasFailed = true
    if (!child.isOver) killTree(child.pid)
    if (program.listener !== undefined) this.#dependencies.drop(program.listener)
    void this.#tell(started, failed)
  }

  async #tell({ container, name, words, ended, reply }: Started, reason: ReasonCode): Promise<void> {
    const status = await ended
    this.#dependencies.onProgram(container, { program: name, reason, words: await words.last() })
    words.close()
    reply.say('told', status)
  }

  /** The keeper has refused the listener, or the runtime ended before the listener arrived. */
  #giveUp(program: Program): void {
    if (program.listener === undefined) this.#programs.delete(program)
  }

  #mayWait(container: number): boolean {
    const waiting = [...this.#waiting].filter((wish) => wish.container.index === container).length
    const programs = [...this.#programs].filter((program) => program.container === container).length
    return waiting < WAITING_PER_CONTAINER && programs + waiting < PROGRAMS_PER_CONTAINER
  }

  #startingOf({ index }: Container): number {
    return [...this.#started.values()].filter(({ container }) => container.index === index).length
  }

  #lastStart({ index }: Container): number {
    return this.#starts.get(index) ?? 0
  }

  #refuse(wish: Wish): void {
    clearTimeout(wish.timer)
    this.#waiting.delete(wish)
    this.#press()
    wish.reply.say('refused')
  }

  /** Finds the waiting request whose container has the most, and of several the newest. */
  #last(): Wish {
    const waiting = [...this.#waiting]
    const shareOf = ({ container }: Wish): number =>
      this.#startingOf(container) + waiting.filter((other) => other.container.index === container.index).length
    return waiting.reduce((last, wish) => (shareOf(wish) >= shareOf(last) ? wish : last))
  }

  /**
   * Finds the request that may start next: that of the container with the fewest starting programs, or that has waited
   * longest.
   */
  #next(): Wish | undefined {
    const { size } = this.#started
    const share = size < STARTING ? poolShare(size, STARTING, STARTING_PER_CONTAINER) : 0
    return [...this.#waiting]
      .filter(({ container }) => this.#startingOf(container) < share)
      .sort(
        ({ container: one }, { container: other }) =>
          this.#startingOf(one) - this.#startingOf(other) || this.#lastStart(one) - this.#lastStart(other),
      )[0]
  }

  #serve(): void {
    for (let wish = this.#next(); wish; wish = this.#next()) {
      clearTimeout(wish.timer)
      this.#waiting.delete(wish)
      this.#begin(wish)
    }
    this.#press()
  }

  /** Limits the time of a starting program while a container with fewer starting programs waits. */
  #press(): void {
    const fewest = Math.min(...[...this.#waiting].map(({ container }) => this.#startingOf(container)))
    for (const { container, reply } of this.#started.values()) reply.press(fewest < this.#startingOf(container))
  }

  #begin(wish: Wish): void {
    const { container, job, program: name, reply } = wish
    this.#starts.set(container.index, ++this.#count)
    // The runtime opens the file through our /proc/PID/fd, so that it need not inherit the descriptor.
    const file = textFile('intercede-process', wish.process)
    const words = new OutputTail()
    let child: Child
    try {
      child = this.#exec(wish, file, words)
    } catch (error) {
      file[Symbol.dispose]()
      words.close()
      // A container whose root has no key left can ask for it all the time.
      if (!this.#unable.has(container.index))
        this.#dependencies.onFault(`Cannot start a program in container ${container.id}: ${(error as Error).message}`)
      this.#unable.add(container.index)
      reply.say('refused')
      return
    }
    this.#unable.delete(container.index)
    const program: Program = { container: container.index, pid: child.pid, hasFailed: false, listener: undefined }
    this.#programs.add(program)
    const ended = child.ended.then((ending) => {
      file[Symbol.dispose]()
      const status = shellStatus(ending)
      reply.say('ended', status)
      return status
    })
    this.#started.set(job, { container, name, program, child, words, ended, reply })
    reply.say('runs')
  }

  #exec({ container, process: spec, caller }: Wish, file: Handle, words: OutputTail): Child {
    const { uidMap, gidMap, exec } = container
    const input = countedForNobody(pipe)
    input.write[Symbol.dispose]()
    using stdin = input.read
    const { writer: output } = words
    const { read, write } = pipe()
    using held = read
    using go = write
    // If the process has ended, its job ends, too.
    const running = orElse(undefined, () => runningOf(caller))
    const child = this.#dependencies.start(commandOf(container, spec, file), {
      fds: [stdin, output, output, held],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...exec!.env },
      owner: rootOf(uidMap, gidMap),
    })
    if (running) orElse(undefined, () => runAs(child.pid as Tid, running))
    // Closing this executes the runtime.
    go[Symbol.dispose]()
    return child
  }
}

/** What runtimes do not give to a program, or only some do. */
interface Inherited {
  readonly oomScoreAdj: number
  readonly user: { readonly umask: number }
}

/**
 * Executes a runtime only when the pipe 3 is closed. Until then we can change what it passes on. If we changed it after
 * its start, it might have started other processes already.
 */
const HELD = 'read -r _ <&3; exec 3<&-; umask "$1"; shift; exec "$@"'

function commandOf({ id, exec, handles }: Container, spec: string, file: Handle): [string, ...string[]] {
  const { program, options } = exec!
  const own = `/proc/${process.pid}/fd`
  const { oomScoreAdj, user } = JSON.parse(spec) as Inherited
  const wanted = String(oomScoreAdj)
  // No runtime sets oom_score_adj for an exec'd program: without choom(1) the program would inherit the engine's.
  const score = wanted === ownScore() ? [] : ['choom', '-n', wanted, '--']
  const enter = handles?.runtime === undefined ? [] : ['nsenter', `--mount=${own}/${handles.runtime}`, '--']
  const umask = user.umask.toString(8)
  const runtime = [program, ...options, 'exec', '--process', `${own}/${file.raw}`, '--', id]
  return ['sh', '-c', HELD, 'sh', umask, ...score, ...enter, ...runtime]
}

/** The host ids of the container's root. */
function rootOf(uidMap: readonly IdExtent[], gidMap: readonly IdExtent[]): { uid: HostId; gid: HostId } | undefined {
  const [uid, gid] = [toOutside(uidMap, 0), toOutside(gidMap, 0)]
  return uid === undefined || gid === undefined ? undefined : { uid: uid as HostId, gid: gid as HostId }
}

const ownScore = (): string => readFileSync('/proc/self/oom_score_adj', 'latin1').trim()
