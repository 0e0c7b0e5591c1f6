import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { dup, type Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { pipe } from '../../kernel/pipe.ts'
import { spawnInto, spawnsInto } from '../../kernel/posix-spawn.ts'
import { childrenOfOthers, hasEnded } from '../../kernel/process.ts'
import type { SpawnGuard } from './spawn-guard.ts'

/**
 * How long a process may take to execute its program. Until then it has copies of our descriptors; and a container can
 * make it wait, for it begins in its cgroup: by a freezer, or by processes that take all the time which the cgroup has.
 */
const START_MS = 50
/** How long to wait for a process that was killed in that time: the kernel may let it wait even to end. */
const KILLED_MS = 50
const END_MS = 3000
/** How often to look whether a process has ended, at first and at last. */
const REAP_MS = { from: 1, to: 1000 } as const
/** The lowest number of a descriptor that a process is given: higher than the numbers under which it gets them. */
const LEAST = 8

interface GroupSpawn {
  /** The descriptors that the program gets as 0, 1, 2, ...; it gets one more, which it must not close. */
  readonly fds: readonly Handle[]
  readonly environment: readonly string[]
  /** The cgroup of v2 in which it begins; without it in ours. */
  readonly cgroup: Handle | undefined
}

/**
 * Starts short programs inside cgroups of containers. A process that moves there makes the kernel wait for all
 * processors (linux/kernel/cgroup/cgroup.c cgroup_attach_lock()); a process that begins there does not. But that
 * process can be made to wait before it executes its program, and whoever starts it with it: so a thread of libuv's
 * pool starts it, one at a time, and what takes long is killed.
 *
 * Invariant: the main thread alone calls this.
 */
export class GroupSpawner {
  readonly #guard: SpawnGuard
  #turn: Promise<unknown> = Promise.resolve()
  /** A process that was killed has not ended: the thread that starts processes waits for it. */
  #isStuck = false
  /** Processes that execute their programs. */
  readonly #running = new Set<number>()

  constructor(guard: SpawnGuard) {
    this.#guard = guard
  }

  /**
   * Runs a program.
   *
   * @returns `late` if it took too long and was killed; undefined if it could not be started now
   */
  async run(command: readonly [string, ...string[]], options: GroupSpawn): Promise<'ended' | 'late' | undefined> {
    if (!spawnsInto || this.#isStuck) return undefined
    const { read, write } = pipe()
    using reading = read
    const turn = this.#turn.then(() => this.#start(command, options, write))
    this.#turn = turn.catch(() => {})
    const pid = await turn
    return typeof pid === 'number' ? await this.#end(pid, reading) : pid
  }

  /** @param write owned here from now on @returns the number of the process */
  async #start(
    command: readonly [string, ...string[]],
    { fds, environment, cgroup }: GroupSpawn,
    write: Fd,
  ): Promise<number | 'late' | undefined> {
    using end = write
    if (this.#isStuck) return undefined
    // The pool's thread may use them after the caller has given up.
    const copies = copiesOf([...fds, end, ...(cgroup ? [cgroup] : [])])
    const place = cgroup && copies.at(-1)
    const given = copies.slice(0, fds.length + 1)
    let [isOver, isKilled] = [false, false]
    this.#guard.begin()
    const started = new Promise<number | 'late' | undefined>((resolve) =>
      spawnInto(command, { fds: given, environment, cgroup: place }, (errno, pid) => {
        isOver = true
        if (this.#isStuck && errno === 0) void reaped(pid)
        this.#isStuck = false
        this.#guard.end()
        for (const copy of copies) copy[Symbol.dispose]()
        // The C library takes a process that was killed for one that executes its program.
        if (errno === 0 && !isKilled) this.#running.add(pid)
        resolve(isKilled ? 'late' : errno === 0 ? pid : undefined)
      }),
    )
    const kill = async (): Promise<'late'> => {
      await sleep(START_MS)
      isKilled = !isOver && this.#killStarting()
      if (!isOver) await Promise.race([started, sleep(KILLED_MS)])
      this.#isStuck = !isOver
      return 'late'
    }
    return await Promise.race([started, kill()])
  }

  /** Kills the process that does not get on to execute its program. @returns whether there is one */
  #killStarting(): boolean {
    const starting = childrenOfOthers().filter((pid) => !this.#running.has(pid))
    for (const pid of starting) {
      process.kill(pid, 'SIGKILL')
      void reaped(pid)
    }
    return starting.length > 0
  }

  /** Waits until a process has closed its descriptors; it ends right after that. */
  async #end(pid: number, read: Fd): Promise<'ended' | 'late'> {
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      process.kill(pid, 'SIGKILL')
    }, END_MS)
    await closed(read)
    clearTimeout(timer)
    void reaped(pid).then(() => this.#running.delete(pid))
    return isLate ? 'late' : 'ended'
  }
}

/** @throws {SyscallError} EMFILE; then there is none */
function copiesOf(fds: readonly Handle[]): readonly Fd[] {
  const copies: Fd[] = []
  try {
    for (const fd of fds) copies.push(dup(fd, LEAST))
    return copies
  } catch (error) {
    for (const copy of copies) copy[Symbol.dispose]()
    throw error
  }
}

/** Resolves when nobody has the writing end of a pipe any more. @param read passed on */
const closed = (read: Fd): Promise<void> =>
  new Promise((resolve) => {
    const socket = new Socket({ fd: read.release(), readable: true, writable: false })
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.resume()
  })

async function reaped(pid: number): Promise<void> {
  for (let pause: number = REAP_MS.from; !hasEnded(pid); pause = Math.min(2 * pause, REAP_MS.to)) await sleep(pause)
}
