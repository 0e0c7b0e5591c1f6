import { posix } from 'node:path'
import type { PathBytes } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { AT_FDCWD, O_NOFOLLOW, O_PATH, X_OK } from '../../abi/fcntl.ts'
import { ST_NODEV } from '../../abi/mount.ts'
import { fileType, makedev, S_IFCHR, S_IFREG } from '../../abi/stat.ts'
import type { Exec, Fuse, FuseMount, Readiness } from '../../calls/fuse.ts'
import { packName } from '../../calls/packed.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError, Refused } from '../../calls/verdict.ts'
import { now } from '../../kernel/clock.ts'
import { orFalse } from '../../kernel/error.ts'
import { access, deviceOf, fstatfs, openat, readlink, statx } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { STATUS_SIZE } from '../../kernel/procfs/status.ts'
import { sleepSync } from '../../shared/words.ts'
import { directoryId, readProcText, requireSameAsInit } from '../task/same-as-init.ts'
import type { FuseCaller, FuseJob } from './fuse-caller.ts'
import { FuseTarget } from './fuse-target.ts'
import { exactJson, ociProcess } from './oci-process.ts'

const DEV_FUSE = makedev(10, 229)

/**
 * How long a program may take until its file system is mounted, in milliseconds. It counts in looks: on a machine on
 * which this thread gets no processor, neither does the program.
 */
const PATIENCE_MS = 10_000
/** The same while others wait, who have fewer programs starting. */
const PRESSED_MS = 2000
const LOOK_MS = 100
/** A program that is still in the foreground this long after its mount, in milliseconds, is taken to stay there. */
const STAYS_MS = 500
/** How long to wait for the mount of a program that the previous engine started, in milliseconds. */
const STILL_MS = 2000

const path = (text: string): PathBytes => Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes

/**
 * Rejects paths that lead through /proc, which the runtime would resolve with its own descriptors and its own
 * /proc/self. A mount of the container over /proc does not help: the container can remove it before the runtime looks.
 *
 * @throws {ContinueError}
 */
function mustLeadPastProc(pathname: string): void {
  const names = pathname.split('/')
  if (names.some((name, at) => name === 'proc' && posix.normalize(names.slice(0, at + 1).join('/')) === '/proc'))
    throw new ContinueError('crossesProc')
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
    const texts = {
      status: readProcText(task(), 'status', STATUS_SIZE),
      limits: readProcText(task(), 'limits'),
      oomScoreAdj: readProcText(task(), 'oom_score_adj'),
      cwd: this.#cwd(),
    }
    const process = ociProcess(texts, container, exec)
    if (!waits()) throw new ContinueError('gone')
    if (!this.#isAt(texts.cwd)) throw new ContinueError('fuseElsewhere')
    this.#mustHaveDevice()
    return { program: this.#find(program, exec), process }
  }

  mount({ program, process, args, target: where, namespace, attributes, otherwise }: FuseMount): void {
    const { tid, container, services, identity, mayBlock } = this.#caller
    const target = new FuseTarget(this.#caller, where, namespace)
    this.#caller.caller.note(BigInt(target.before))
    const command = [program, ...args].map(asUtf8)
    mayBlock()
    identity.with(steps.askRuntime)
    const job = services.start(container, { program, caller: tid, process: exactJson({ ...process, args: command }) })
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
    for (const end = now() + STILL_MS; now() < end; sleepSync(LOOK_MS)) {
      if (target.look()) return target.set(attributes)
      if (!this.#caller.waits()) return false
    }
    return false
  }

  /** Waits for the mount and sets its attributes. @returns the reason if that failed */
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

  /** Waits until the file system is mounted. @returns the reason if nothing was mounted */
  #await(job: FuseJob, target: FuseTarget): ReasonCode | undefined {
    let mounted: number | undefined
    for (let waited = 0; ; ) {
      job.wait(LOOK_MS)
      waited += LOOK_MS
      const at = now()
      const { status } = job
      if (!this.#caller.waits()) return 'gone'
      if (status !== undefined && status !== 0) return 'fuseFailed'
      if (target.look()) mounted ??= at
      if (mounted !== undefined && (status === 0 || at - mounted > STAYS_MS)) return undefined
      if (status === 0) return 'fuseNotMounted'
      if (waited > (job.isPressed ? PRESSED_MS : PATIENCE_MS)) return 'fuseTimeout'
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

  /**
   * Tells whether the caller's device rules let it open /dev/fuse. A rootless daemon cannot ask, since that takes
   * making a device node; the rules bind the program in any case.
   */
  #mayOpen(): boolean {
    const { caller, container } = this.#caller
    return container.ofUser !== undefined || caller.deviceRules(DEV_FUSE).open
  }

  /** Finds a program as execvp(3) would in the container. */
  #find(program: string, { process: { env } }: Exec): string {
    const search = env.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? ''
    const candidates = program.includes('/')
      ? [program]
      : search.split(':').map((directory) => `${directory || '.'}/${program}`)
    const found = candidates.find((candidate) => this.#isProgram(candidate))
    if (found !== undefined) return found
    throw new ContinueError(
      program.startsWith('/') ? 'fuseNotInImage' : 'fuseNoProgram',
      ...packName(posix.basename(program)),
    )
  }

  #isProgram(candidate: string): boolean {
    const { caller, outsideProc } = this.#caller
    mustLeadPastProc(candidate)
    const file = orUndefined(() => outsideProc(path(candidate)))
    // The container's procfs has no /proc/self for this thread, so a path that only the caller resolves leads through
    // procfs.
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

/** Decodes Latin-1 bytes as UTF-8, since the runtime is told in JSON. @throws {ContinueError} if they are not UTF-8 */
function asUtf8(bytes: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(bytes, 'latin1'))
  } catch {
    throw new ContinueError('fuseNotText')
  }
}
