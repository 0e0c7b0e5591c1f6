import { readlinkSync, realpathSync } from 'node:fs'
import { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { openToOthers } from '../doctor/own-files.ts'
import { now } from '../kernel/clock.ts'
import { orElse } from '../kernel/error.ts'
import { execv } from '../kernel/exec.ts'
import { orClose, pipe } from '../kernel/fd.ts'
import { openNothing } from '../kernel/files.ts'
import { children, reap } from '../kernel/process.ts'
import type { ReloadMode } from '../policy/config.ts'
import { build, buildNow } from '../processes/build-id.ts'
import { Child, howEnded } from '../processes/child.ts'
import { ownCommand } from '../processes/node-programs.ts'
import type { Keeper } from './keeper.ts'
import type { Log } from './log/log.ts'
import { FORMAT } from './persist/persisted-state.ts'
import type { Successor } from './process/events.ts'
import type { ServiceManager } from './process/service-manager.ts'

/**
 * Reaps the children that the previous program in this process has started (see `Reexec`): an engine whose threads hang
 * in a container's file system may end much later. Make this object before the program starts a child: otherwise it
 * would reap that child, too, instead of Node.
 */
export class InheritedChildren {
  #pids = children()

  /** Reaps ended children. To be called once a second. */
  look(): void {
    this.#pids = this.#pids.filter((pid) => reap(pid) === undefined)
  }
}

/** The longest time for the new program's self-check, which usually takes a tenth of a second. */
const CHECK_MS = 30_000
/** Interval of attempts without a SIGHUP: the files may be half replaced. */
const RETRY_MS = 10_000
const WAITS = 'reload is "manual" in the configuration: systemctl reload intercede, or SIGHUP'

/** The beginning of the new program's messages about the configuration. */
const OF_CONFIGURATION = /^Cannot read (?:policy|configuration) /
export const OLD_ONE = 'Cannot reload, because the configuration is wrong; the old one stays'
const OLD_PROGRAM = 'Cannot become the new program'

interface ReexecOptions {
  mode(): ReloadMode
  /** Returns why the configuration must not be used, whatever the next program says. */
  bar(): string | undefined
  /** Completes this program's log before the next program starts. */
  leave(): void
}

/** Returns whether the file that Node was started from is gone, as after an upgrade of Node. */
const isNodeReplaced = (): boolean => readlinkSync('/proc/self/exe').endsWith(' (deleted)')

/**
 * Replaces this program by the program in our files now, in the same process (execve(2)): to change the version, or to
 * start an engine with options that a running engine cannot take. The new program finds the stored state as the next
 * process of a service would. This program first asks it whether it can take over, so that every failure happens while
 * this program still serves.
 *
 *   state     event                                 next      method
 *   idle      SIGHUP, see Service                   checking  ask
 *             our files have changed                checking  look, every RETRY_MS at most; idle if mode is manual
 *             they have, and an engine is needed    checking  follow; idle if mode is manual: no engine is started
 *   checking  the new program refuses               idle      #go: checking again if SIGHUP came meanwhile
 *             the new program agrees                storing   #become
 *   storing   all is stored                         -         #become: execve(2) does not return
 *             SIGTERM came, or execve(2) fails      idle      #become: Keeper.resume; checking again as above
 */
export class Reexec implements Successor {
  readonly #keeper: Keeper
  readonly #manager: ServiceManager
  readonly #log: Log
  readonly #options: ReexecOptions
  #running: Promise<string> | undefined
  #isAsked = false
  #isForced = false
  #next = 0
  #said = ''

  constructor(keeper: Keeper, manager: ServiceManager, log: Log, options: ReexecOptions) {
    this.#keeper = keeper
    this.#manager = manager
    this.#log = log
    this.#options = options
  }

  /** Whether a reload must replace the program: its files have changed, or it is already being replaced. */
  get isDue(): boolean {
    return this.#running !== undefined || buildNow() !== build || isNodeReplaced()
  }

  /** @returns why the program cannot be replaced; if it can, the promise ends with this program */
  #start(): Promise<string> {
    this.#running ??= this.#go().finally(() => {
      this.#running = undefined
      this.#next = now() + RETRY_MS
    })
    return this.#running
  }

  /** Replaces the program on request. During a check the files may have changed since, so they are checked again. */
  ask(isForced: boolean): Promise<string> {
    if (this.#running) this.#isAsked = true
    this.#isForced = isForced
    this.#said = ''
    return this.#start()
  }

  follow(): Promise<string> | undefined {
    if (buildNow() === build) return undefined
    return this.#options.mode() === 'manual' ? Promise.resolve(WAITS) : this.#start()
  }

  look(): void {
    if (now() < this.#next || buildNow() === build) return
    if (this.#options.mode() === 'auto') void this.#start()
    else this.#wait()
  }

  /** Reports once that the files were replaced: until the reload, this program cannot start processes. */
  #wait(): void {
    this.#next = Number.POSITIVE_INFINITY
    this.#log.write('warn', `The files of the program were replaced, and ${WAITS}`)
  }

  async #go(): Promise<string> {
    this.#manager.reloading()
    let why: string
    let which: string
    do {
      this.#isAsked = false
      const bar = this.#isForced ? undefined : this.#options.bar()
      why = bar ?? (await refusal()) ?? (await this.#become())
      which = bar !== undefined || OF_CONFIGURATION.test(why) ? OLD_ONE : OLD_PROGRAM
    } while (this.#isAsked)
    this.#isForced = false
    this.refused(why, which, why === this.#said)
    this.#said = why
    return why
  }

  /**
   * Reports why this program continues unchanged.
   *
   * @param which what cannot be done
   * @param isKnown whether the log says so already
   */
  refused(why: string, which: string, isKnown = false): void {
    this.#keeper.notReloaded(which, why)
    if (!isKnown) this.#log.write('error', `${which}: ${why}`, {}, 'cannotReload')
    this.#manager.ready(this.#keeper.status)
  }

  async #become(): Promise<string> {
    let isCounted = false
    try {
      await this.#keeper.quiesce()
      this.#options.leave()
      this.#keeper.reloads(1)
      isCounted = true
      const [node, args] = ownCommand()
      return this.#manager.leave((fds) => execv(node, args, fds))
    } catch (error) {
      if (isCounted) this.#keeper.reloads(-1)
      this.#keeper.resume()
      return (error as Error).message
    }
  }
}

/** @returns why the new program could not take over our state, in its own words; undefined if it could */
async function refusal(): Promise<string | undefined> {
  const wrong = openToOthers()
  if (wrong !== undefined) return wrong
  try {
    const { child, words } = startCheck()
    const late = setTimeout(() => child.kill('SIGTERM'), CHECK_MS)
    const [ending, said] = await Promise.all([child.ended, words.toArray()])
    clearTimeout(late)
    // A signal that came meanwhile is heard first.
    await turn()
    if ('status' in ending && ending.status === 0) return undefined
    const text = Buffer.concat(said).toString().trim()
    return text.replace(/^intercede: /, '') || `its check ${howEnded(ending)}`
  } catch (error) {
    return (error as Error).message
  }
}

/** Starts the new program, which checks what it would take over. */
function startCheck(): { readonly child: Child; readonly words: Socket } {
  const [node, args] = ownCommand('--check-config', '--takes-over', String(FORMAT))
  const { read, write } = pipe()
  using errors = write
  return orClose([read], () => {
    using nothing = openNothing()
    // The directory in which we were started may have been removed.
    const directory = orElse('/', () => realpathSync(process.cwd()))
    const how = { env: process.env, directory, detached: false }
    const child = new Child([node, ...args], { ...how, fds: [nothing, nothing, errors] })
    return { child, words: new Socket({ fd: read.release(), readable: true, writable: false }) }
  })
}
