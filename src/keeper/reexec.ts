import { execFile } from 'node:child_process'
import { openToOthers } from '../doctor/own-files.ts'
import { build, buildNow } from '../kernel/build.ts'
import { now } from '../kernel/clock.ts'
import { execv } from '../kernel/execute.ts'
import { spawnWithoutInheritedFds } from '../kernel/started.ts'
import type { Keeper } from './keeper.ts'
import type { Log } from './log/log.ts'
import { FORMAT } from './persist/persisted-state.ts'
import type { Successor } from './process/events.ts'
import type { ServiceManager } from './process/service-manager.ts'

/** It takes a tenth of a second. */
const CHECK_MS = 30_000
/** When it could not be, and nobody asks for it: the files may be in the middle of being replaced. */
const RETRY_MS = 10_000

/**
 * Goes on as the program that the files are now, in the same process: with another build, another configuration, or the
 * same ones. All that is stored for the next process of a service is left to it, and taken over in the same way. That can
 * fail only as long as this program still serves: the next one is asked before whether it could.
 */
export class Reexec implements Successor {
  readonly #keeper: Keeper
  readonly #manager: ServiceManager
  readonly #log: Log
  #running: Promise<string> | undefined
  #isAsked = false
  #next = 0
  #said = ''

  constructor(keeper: Keeper, manager: ServiceManager, log: Log) {
    this.#keeper = keeper
    this.#manager = manager
    this.#log = log
  }

  /** @returns why it cannot be; nothing if it can, for nobody is there any more */
  go(): Promise<string> {
    this.#running ??= this.#go().finally(() => {
      this.#running = undefined
      this.#next = now() + RETRY_MS
    })
    return this.#running
  }

  /** Somebody asks for it: what is being looked at may have been changed since then. */
  ask(): void {
    if (this.#running) this.#isAsked = true
    else void this.go()
  }

  follow(): Promise<string> | undefined {
    return buildNow() === build ? undefined : this.go()
  }

  look(): void {
    if (now() >= this.#next && buildNow() !== build) void this.go()
  }

  async #go(): Promise<string> {
    this.#manager.reloading()
    let why: string
    do {
      this.#isAsked = false
      why = (await refusal()) ?? (await this.#become())
    } while (this.#isAsked)
    if (why !== this.#said) this.#log.write('error', `Cannot go on as the program that the files are now: ${why}`)
    this.#said = why
    this.#manager.ready(`${this.#keeper.status}; cannot reload: ${why}`)
    return why
  }

  async #become(): Promise<string> {
    try {
      await this.#keeper.quiesce()
      const args = [...process.execArgv, ...process.argv.slice(1)]
      return this.#manager.leave((fds) => execv(process.execPath, args, fds))
    } catch (error) {
      this.#keeper.resume()
      return (error as Error).message
    }
  }
}

/** Why the program that the files are now could not go on with what we have; in the words of that program. */
async function refusal(): Promise<string | undefined> {
  const wrong = openToOthers()
  if (wrong !== undefined) return wrong
  const args = [...process.execArgv, ...process.argv.slice(1), '--check-config', '--takes-over', String(FORMAT)]
  const options = { timeout: CHECK_MS, maxBuffer: Number.POSITIVE_INFINITY }
  return new Promise((resolve) => {
    spawnWithoutInheritedFds(() =>
      execFile(process.execPath, args, options, (error, _, said) => {
        resolve(error ? said.trim().replace(/^intercede: /, '') || error.message : undefined)
      }),
    )
  })
}
