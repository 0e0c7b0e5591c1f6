import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Container, ContainerNumbers } from '../../caller/identity/container.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import type { Handle } from '../../kernel/handle.ts'
import { pipe } from '../../kernel/pipe.ts'
import { textFile } from '../../kernel/shared-memory.ts'
import { poolShare } from '../helpers/pool-share.ts'
import type { Spawn } from '../helpers/spawn-guard.ts'
import type { ProgramEnd } from '../protocol/messages.ts'
import { answerOf, type ExecAnswer, type ExecRequest } from './exec-job.ts'
import { killTree } from './kill-tree.ts'
import { OutputTail } from './output-tail.ts'

/** How many programs may be starting at once, on the host and per container; a thread waits for each of them. */
const STARTING = 8
const STARTING_PER_CONTAINER = 4

interface Given {
  readonly file: Handle
  readonly words: OutputTail
}

interface Started {
  readonly container: ContainerNumbers
  readonly program: string
  readonly child: ChildProcess
  readonly words: OutputTail
  readonly ended: Promise<number>
  readonly answer: ExecAnswer
}

/**
 * Starts programs in containers by the runtime's own `exec`, in the main thread. So a program gets all that the runtime
 * gives its containers, such as the seccomp filter. Of our descriptors it gets only the pipes of its standard streams.
 */
export class ContainerExecs {
  readonly #started = new Map<string, Started>()
  readonly #spawn: Spawn
  readonly #onProgram: (container: ContainerNumbers, end: ProgramEnd) => void

  constructor(spawn: Spawn, onProgram: (container: ContainerNumbers, end: ProgramEnd) => void) {
    this.#spawn = spawn
    this.#onProgram = onProgram
  }

  start(container: Container | undefined, { job, program, process, answer: buffer }: ExecRequest): void {
    const answer = answerOf(buffer)
    const mine = [...this.#started.values()].filter((each) => each.container.index === container?.index)
    const { size } = this.#started
    if (!container?.exec || size >= STARTING || mine.length >= poolShare(size, STARTING, STARTING_PER_CONTAINER)) {
      answer('refused')
      return
    }
    const words = new OutputTail()
    // The runtime opens the file through our /proc/PID/fd, so that it need not inherit the descriptor.
    const file = textFile('intercede-process', process)
    const child = exec(this.#spawn, container, process, { file, words })
    const ended = statusOf(child).then((status) => {
      file[Symbol.dispose]()
      answer('ended', status)
      return status
    })
    this.#started.set(job, { container, program, child, words, ended, answer })
    answer('runs')
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
    const { child, words } = started
    if (failed === undefined) {
      words.close()
      return
    }
    if (child.exitCode === null && child.pid !== undefined) killTree(child.pid)
    void this.#tell(started, failed)
  }

  async #tell({ container, program, words, ended, answer }: Started, reason: ReasonCode): Promise<void> {
    const status = await ended
    this.#onProgram(container, { program, reason, words: await words.last() })
    words.close()
    answer('told', status)
  }
}

const statusOf = (child: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    child.on('error', () => resolve(127))
    child.on('exit', (status, signal) => resolve(status ?? 128 + (signal ? constants.signals[signal] : 0)))
  })

function exec(spawn: Spawn, { id, exec, handles }: Container, spec: string, { file, words }: Given): ChildProcess {
  const { program, options, env } = exec!
  const own = `/proc/${process.pid}/fd`
  const wanted = scoreOf(spec)
  // No runtime sets oom_score_adj for an exec'd program: without choom(1) the program would inherit the engine's.
  const score = wanted === ownScore() ? [] : ['choom', '-n', wanted, '--']
  const enter = handles?.runtime === undefined ? [] : ['nsenter', `--mount=${own}/${handles.runtime}`, '--']
  const command = [...score, ...enter, program, ...options, 'exec', '--process', `${own}/${file.raw}`, '--', id]
  const input = pipe()
  input.write[Symbol.dispose]()
  using stdin = input.read
  using output = words.writer
  const [first = '', ...rest] = command
  return spawn(first, rest, {
    stdio: [stdin.raw, output.raw, output.raw],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env },
    cwd: '/',
    detached: true,
  })
}

const scoreOf = (spec: string): string => String((JSON.parse(spec) as { readonly oomScoreAdj: number }).oomScoreAdj)
const ownScore = (): string => readFileSync('/proc/self/oom_score_adj', 'latin1').trim()
