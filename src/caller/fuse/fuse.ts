import type { PathBytes } from '../../abi/brand.ts'
import { makedev } from '../../abi/dev.ts'
import { errno } from '../../abi/errno.ts'
import { AT_FDCWD, O_NOFOLLOW, O_PATH, X_OK } from '../../abi/fcntl.ts'
import { ST_NODEV } from '../../abi/mount.ts'
import { fileType, S_IFCHR, S_IFREG } from '../../abi/stat.ts'
import type { Exec, Fuse, FuseMount, Readiness } from '../../calls/fuse.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError, Refused } from '../../calls/verdict.ts'
import { access } from '../../kernel/access.ts'
import { now } from '../../kernel/clock.ts'
import { orFalse } from '../../kernel/error.ts'
import { deviceOf, fstatfs, openat, readlink, statx } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { STATUS_SIZE } from '../../kernel/procfs/status.ts'
import { directoryId, readProcText, requireSameAsInit } from '../task/same-as-init.ts'
import type { FuseCaller, FuseJob } from './fuse-caller.ts'
import { FuseTarget } from './fuse-target.ts'
import { exactJson, ociProcess } from './oci-process.ts'

const DEV_FUSE = makedev(10, 229)

/** How long a program may take until its file system is mounted. */
const PATIENCE_MS = 10_000
const LOOK_MS = 100
/** One that does not become a daemon has mounted by now; it goes on. */
const STAYS_MS = 500
/** How long is waited for one that an engine before this one has started. */
const STILL_MS = 2000

const sleep = (milliseconds: number): unknown =>
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

const path = (text: string): PathBytes => Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes

/**
 * May this be said to the runtime, which finds it by its own descriptors and its own /proc/self? Also where something else lies on
 * /proc now: the container can take that away before the runtime looks.
 */
function mustLeadPastProc(place: string): void {
  if (/^\/+(\.\/+)*proc(\/|$)/.test(place)) throw new ContinueError('crossesProc')
}

export class CallerFuse implements Fuse {
  readonly #caller: FuseCaller

  constructor(caller: FuseCaller) {
    this.#caller = caller
  }

  ready(program: string): Readiness {
    const { container, identity, task, proc, waits } = this.#caller
    const { exec } = container
    if (!exec) throw new ContinueError('fuseNoRuntime')
    identity.with(steps.look)
    requireSameAsInit(task(), container, proc)
    const told = {
      status: readProcText(task(), 'status', STATUS_SIZE),
      limits: readProcText(task(), 'limits'),
      oomScoreAdj: readProcText(task(), 'oom_score_adj'),
      cwd: this.#cwd(),
    }
    const process = ociProcess(told, container, exec)
    if (!waits()) throw new ContinueError('gone')
    if (!this.#isAt(told.cwd)) throw new ContinueError('fuseElsewhere')
    this.#mustHaveDevice()
    return { program: this.#find(program, exec), process }
  }

  mount({ program, process, args, target: where, namespace, attributes, otherwise }: FuseMount): void {
    const { container, services, identity, mayBlock } = this.#caller
    const target = new FuseTarget(this.#caller, where, namespace)
    this.#caller.caller.note(BigInt(target.before))
    const command = [program, ...args].map(asUtf8)
    mayBlock()
    identity.with(steps.askRuntime)
    const job = services.start(container, program, exactJson({ ...process, args: command }))
    if (!job) throw new Refused('fuseBusy', errno('EAGAIN'))
    const failed = this.#outcome(job, target, attributes)
    if (failed === undefined) return
    target.detach()
    if (failed === 'gone') throw new ContinueError('gone')
    throw new Refused(failed, failed === 'fuseTimeout' ? errno('ETIMEDOUT') : otherwise, job.status)
  }

  mounted({ target: where, namespace, attributes }: FuseMount, note: bigint): boolean {
    const target = new FuseTarget(this.#caller, where, namespace, Number(note))
    this.#caller.mayBlock()
    for (const end = now() + STILL_MS; now() < end; sleep(LOOK_MS)) {
      if (target.look()) return target.set(attributes)
      if (!this.#caller.waits()) return false
    }
    return false
  }

  /** @returns why it is not mounted as it shall be */
  #outcome(job: FuseJob, target: FuseTarget, attributes: bigint): ReasonCode | undefined {
    let failed: ReasonCode | undefined = 'fault'
    try {
      failed = this.#await(job, target)
      if (failed === undefined && !target.set(attributes)) failed = 'fuseNotMounted'
      return failed
    } finally {
      job.over(failed)
    }
  }

  /** @returns why nothing is mounted */
  #await(job: FuseJob, target: FuseTarget): ReasonCode | undefined {
    const start = now()
    for (let mounted: number | undefined; ; ) {
      job.wait(LOOK_MS)
      const at = now()
      const { status } = job
      if (!this.#caller.waits()) return 'gone'
      if (status !== undefined && status !== 0) return 'fuseFailed'
      if (target.look()) mounted ??= at
      if (mounted !== undefined && (status === 0 || at - mounted > STAYS_MS)) return undefined
      if (status === 0) return 'fuseNotMounted'
      if (at - start > PATIENCE_MS) return 'fuseTimeout'
    }
  }

  #cwd(): string {
    using link = openat(this.#caller.task().raw, cstring('cwd'), O_PATH | O_NOFOLLOW)
    return Buffer.from(readlink(link)).toString('latin1')
  }

  #isAt(cwd: string): boolean {
    const { caller, outsideProc } = this.#caller
    mustLeadPastProc(cwd)
    return directoryId(outsideProc(path(cwd))) === directoryId(caller.object(AT_FDCWD, path('.'), true))
  }

  #mustHaveDevice(): void {
    const { caller } = this.#caller
    const node = orUndefined(() => caller.object(AT_FDCWD, path('/dev/fuse'), true))
    const there = node && fileType(statx(node.raw).mode) === S_IFCHR && deviceOf(node) === DEV_FUSE
    if (!there || (fstatfs(node).flags & ST_NODEV) !== 0 || !this.#mayOpen()) throw new ContinueError('fuseNoDevice')
  }

  /** A user cannot ask for the device rules: that takes a node of one's own. The program is bound by them all the same. */
  #mayOpen(): boolean {
    const { caller, container } = this.#caller
    return container.ofUser !== undefined || caller.deviceRules(DEV_FUSE).open
  }

  /** As execvp(3) would for a program of the container. */
  #find(program: string, { process: { env } }: Exec): string {
    const search = env.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? ''
    const candidates = program.includes('/')
      ? [program]
      : search.split(':').map((directory) => `${directory || '.'}/${program}`)
    const found = candidates.find((candidate) => this.#isProgram(candidate))
    if (found === undefined) throw new ContinueError(program.startsWith('/') ? 'fuseNotInImage' : 'fuseNoProgram')
    return found
  }

  #isProgram(candidate: string): boolean {
    const { caller, outsideProc } = this.#caller
    mustLeadPastProc(candidate)
    const file = orUndefined(() => outsideProc(path(candidate)))
    // For us there is no /proc/self in a procfs of the container: what is there for the caller alone leads through that.
    if (!file && orUndefined(() => caller.object(AT_FDCWD, path(candidate), true)))
      throw new ContinueError('crossesProc')
    if (!file || fileType(statx(file.raw).mode) !== S_IFREG) return false
    return orFalse('any', () => {
      caller.act(steps.asCaller, () => access(file, X_OK))
      return true
    })
  }
}

function orUndefined<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    if (error instanceof ContinueError && error.why.code === 'pathNotResolved') return undefined
    throw error
  }
}

/** What is told to a runtime must be text. @throws {ContinueError} if the bytes are none */
function asUtf8(bytes: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes, 'latin1'))
  } catch {
    throw new ContinueError('fuseNotText')
  }
}
