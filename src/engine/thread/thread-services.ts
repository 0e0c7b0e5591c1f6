import { PATH_MAX } from '../../abi/system.ts'
import type { ThreadContext } from '../../caller/caller.ts'
import { CallerMemory } from '../../caller/caller-memory.ts'
import { DeviceNodes, NodevProbe } from '../../caller/devices/nodev.ts'
import type { Container, ContainerNumbers } from '../../caller/identity/container.ts'
import { ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import type { LookupRequest, LookupStart } from '../../caller/paths/lookup-types.ts'
import { requestWalk, WalkerStuck } from '../../caller/paths/walker-client.ts'
import { CallerName, ProcNames } from '../../caller/task/proc-access.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { Fd } from '../../kernel/fd.ts'
import { address } from '../../kernel/libc.ts'
import { SleepTime } from '../../kernel/process.ts'
import { type ProcStatus, STATUS_SIZE } from '../../kernel/procfs/status.ts'
import { RemoteMemory } from '../../kernel/remote-memory.ts'
import { map } from '../../kernel/shared-memory.ts'
import { OneShot } from '../../shared/words.ts'
import { ExecJob } from '../execs/exec-job.ts'
import { SysinfoSource } from '../facts/sysinfo-cache.ts'
import { KeeperFdStore } from '../kept/keeper-fd-store.ts'
import { PersistentState } from '../kept/persistent-state.ts'
import { CallerDeviceRules } from './caller-device-rules.ts'
import type { SharedState } from './shared-state.ts'
import type { FromThread, ThreadData } from './thread-messages.ts'

/** How long a walker may take to get a place, and to start: on a slow machine that is nobody's fault. */
const WALKER_START_MS = 20_000

/** What the services need from their thread. */
interface ThreadCallbacks {
  /** Sends a message to the main thread. */
  readonly post: (message: FromThread) => void
  /** Called before the thread waits, or lets another process work for it: that may take long. */
  readonly mayBlock: () => void
  /** Lets waiting calls of a container be served. */
  readonly unmute: (container: number) => void
}

/**
 * What a thread has for its calls: buffers and stores that are made once, and ways to ask for more. The main thread
 * does everything that needs processes. A message asks it, and it answers in shared memory.
 *
 * Invariant: an object belongs to one thread, which alone calls it. The main thread answers every question, even with
 * no. So the thread waits for an answer without a time limit.
 */
export class ThreadServices {
  readonly context: ThreadContext
  readonly #number: number
  readonly #state: SharedState
  readonly #post: ThreadCallbacks['post']
  readonly #mayBlock: ThreadCallbacks['mayBlock']
  readonly #unmute: ThreadCallbacks['unmute']
  #jobs = 0

  constructor(data: ThreadData, state: SharedState, { post, mayBlock, unmute }: ThreadCallbacks) {
    this.#number = data.number
    this.#state = state
    this.#post = post
    this.#mayBlock = mayBlock
    this.#unmute = unmute
    const proc = new Fd(data.proc)
    const fdStore = new KeeperFdStore(new Fd(data.control), { closeLater: (raws) => post({ type: 'discard', raws }) })
    const persistent = new PersistentState(map(new Fd(data.persistent)), state.persistentLocks, fdStore)
    const identity = new ThreadIdentity(new Fd(data.hostRoot), new Fd(data.mounts))
    this.context = {
      identity,
      memory: new CallerMemory(new RemoteMemory(PATH_MAX, address), new Uint8Array(PATH_MAX)),
      parentPath: new Uint8Array(PATH_MAX),
      proc,
      names: new ProcNames(),
      descriptors: new Fd(data.descriptors),
      sysinfo: new SysinfoSource(state.sysinfo, identity, proc),
      status: Buffer.alloc(STATUS_SIZE),
      callerName: new CallerName(),
      deviceNodes: new DeviceNodes(),
      nodev: new NodevProbe(),
      mounts: {
        lend: (container) => this.#lend(container),
        giveBack: (socket, state) => post({ type: 'giveBack', socket, state }),
        keeping: persistent.contexts,
        made: persistent.made,
        onKept: () => post({ type: 'context' }),
        settle: () => state.spawnGuard.settle(),
      },
      fuse: { start: ({ index }, what) => this.#exec(index, what) },
      programs: persistent.programs,
      mayBlock,
      mayMount: ({ index }) => state.countMount(index),
      pinned: state.pinned,
      rules: new CallerDeviceRules({
        cache: state.deviceRules,
        pace: state.rulesPace,
        seed: state.rulesSeed,
        post,
        mayBlock,
      }),
      walk: ({ index }: Container, start, status, goal) => this.#walk(index, start, status, goal),
    }
  }

  /**
   * Borrows a mounter from the main thread, which starts one if none is free.
   *
   * @returns its socket; undefined if none is free in time
   */
  #lend({ index: container, serial }: ContainerNumbers): number | undefined {
    const answer = new OneShot()
    this.#post({ type: 'lend', container, serial, answer: answer.buffer })
    const socket = answer.wait()!
    return socket > 0 ? socket : undefined
  }

  /** The call waits for a program of its own container, so the program's calls must not wait for this call. */
  #exec(container: number, what: Parameters<ExecJob['start']>[0]): ExecJob | undefined {
    const job = new ExecJob(`${this.#number}:${++this.#jobs}`, {
      ask: (asked) => this.#post({ type: 'exec', container, ...asked }),
      over: (number, failed) => {
        this.#state.standAside(container, -1)
        this.#post({ type: 'execOver', container, job: number, failed })
      },
    })
    this.#state.standAside(container, 1)
    this.#unmute(container)
    if (job.start(what)) return job
    this.#state.standAside(container, -1)
    return undefined
  }

  /** Lets the container's walker look up a path; the call waits until the walker has started. */
  #walk(container: number, start: LookupStart, status: ProcStatus, goal: LookupRequest): Fd {
    const { walkers } = this.#state
    this.#mayBlock()
    return walkers.use(container, () => {
      if (walkers.want(container)) this.#post({ type: 'walker', container })
      walkers.await(container, WALKER_START_MS)
      const walker = walkers.get(container)
      if (typeof walker === 'string') throw new ContinueError(walker === 'never' ? 'noWalker' : 'walkerStuck')
      try {
        const sleepTime = (): SleepTime => new SleepTime(this.context.proc, walkers.pid(container))
        const onWorked = (ms: number): void => this.#state.charge(container, ms)
        return requestWalk({ socket: new Fd(walker), sleepTime, onWorked }, start, status, goal)
      } catch (error) {
        if (!(error instanceof WalkerStuck)) throw error
        this.#post({ type: 'walkerStuck', container, walker, hasEnded: error.hasEnded })
        throw new ContinueError('walkerStuck')
      }
    })
  }
}
