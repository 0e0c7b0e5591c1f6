// Samples the capabilities of engine threads at each call, by BPF: for tests of what is in effect during an act.

import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Cap, capabilities, capBit, capMask } from '../../src/abi/credentials.ts'
import { SECCOMP_IOCTL_NOTIF_RECV } from '../../src/abi/seccomp.ts'
import type { Verbs } from '../../src/calls/act.ts'
import { capsOf, OWN_SETS, permitted, permittedMain, phases, type Step, steps } from '../../src/calls/steps.ts'
import { verbs } from '../../src/verbs/index.ts'
import { fixture } from './fixtures.ts'

/** What a thread had when it made a call; see the fixture `capabilities`. */
export interface Sample {
  readonly tid: number
  readonly call: string
  readonly effective: bigint
  readonly permitted: bigint
  /** Inheritable, bounding and ambient. */
  readonly others: readonly bigint[]
  readonly noNewPrivileges: boolean
}

const RECEIVES = `ioctl:${SECCOMP_IOCTL_NOTIF_RECV}`

/** The capabilities of all threads of a process, at each call that may take one. */
export class Sampler {
  readonly #child: ChildProcess
  readonly #heard: string[] = []
  readonly #serving = new Set<number>()
  /** What is waited for. */
  #until: { readonly line: string; readonly over: (ended?: Error) => void } | undefined

  private constructor(pid: number) {
    this.#child = spawn(fixture('capabilities'), [`${pid}`], { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      if (line === this.#until?.line) this.#until.over()
      else this.#heard.push(line)
    })
    this.#child.once('exit', () => this.#until?.over(new Error('The sampler has ended')))
  }

  static async attach(pid: number): Promise<Sampler> {
    const sampler = new Sampler(pid)
    await sampler.#hear('ready')
    return sampler
  }

  /** What the threads that serve had since the last time: those that receive calls, from the first one on. */
  async take(): Promise<readonly Sample[]> {
    const over = this.#hear('so far')
    this.#child.stdin!.write('\n')
    await over
    return this.#heard
      .splice(0)
      .map(parse)
      .filter(({ tid, call }) => {
        if (call === RECEIVES) this.#serving.add(tid)
        return this.#serving.has(tid)
      })
  }

  /** Lets the process go. */
  async end(): Promise<void> {
    this.#child.stdin!.end()
    if (this.#child.exitCode === null) await new Promise((resolve) => this.#child.once('exit', resolve))
  }

  #hear(line: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#until = { line, over: (ended) => (ended ? reject(ended) : resolve()) }
    })
  }
}

function parse(line: string): Sample {
  const [tid, call = '', ...rest] = line.split(' ')
  const [effective = 0n, allowed = 0n, ...others] = rest.slice(0, 5).map((mask) => BigInt(`0x${mask}`))
  return { tid: Number(tid), call, effective, permitted: allowed, others, noNewPrivileges: rest[5] === '1' }
}

export const named = (mask: bigint): string =>
  capabilities.filter((cap) => (mask & capBit(cap)) !== 0n).join('+') || 'none'

export const maskOf = (step: Step, own: readonly Cap[] = []): bigint => capMask(...step.caps, ...own)

/** All sets of some steps, with whatever they may add. */
const setsOf = (declared: readonly Step[]): readonly bigint[] =>
  declared.flatMap((step) =>
    Array.from({ length: OWN_SETS }, (_, own) => own & step.own).map((own) => capMask(...capsOf(step, own))),
  )

const anyway = [steps.rest, steps.asCaller, ...Object.values(phases).flatMap((phase) => phase.steps)]
/** A set in proc_pid_status(5), such as CapPrm. */
export const maskIn = (status: string, set: string): bigint =>
  BigInt(`0x${new RegExp(`^${set}:\\s*(\\w+)$`, 'm').exec(status)?.[1]}`)

/** What this process may have, which has started the engine. */
const ours = maskIn(readFileSync('/proc/self/status', 'latin1'), 'CapPrm')
const PERMITTED = capMask(...permitted) & ours
/** Of the engine's main thread. */
export const MAIN = capMask(...permittedMain) & ours

/** What was seen while acts of one kind were done and is not declared, in sentences. */
export function undeclared(verb: keyof Verbs, samples: readonly Sample[]): readonly string[] {
  const declared = new Set(setsOf([...anyway, ...verbs[verb].steps]))
  const found = samples.flatMap(({ call, effective, permitted: allowed, others, noNewPrivileges }) => [
    ...(declared.has(effective) ? [] : [`${call} with ${named(effective)} in effect`]),
    ...(allowed === PERMITTED ? [] : [`${call} with ${named(allowed & ~PERMITTED)} permitted`]),
    ...(others.every((mask) => mask === 0n) ? [] : [`${call} with a set that is not empty`]),
    ...(noNewPrivileges ? [] : [`${call} without no_new_privs`]),
  ])
  return [...new Set(found)]
}

/** A row of a table: what was declared for a verb, and what was seen at which calls. */
export function row(verb: keyof Verbs, samples: readonly Sample[]): string {
  const said = verbs[verb].steps.map((step) => named(capMask(...step.caps)) + (step.own === 0 ? '' : ' (+ own)'))
  const calls = [...new Set(samples.filter(({ call }) => call !== RECEIVES).map(({ call }) => call))].sort()
  const seen = calls.map((call) => {
    const sets = new Set(samples.filter((sample) => sample.call === call).map(({ effective }) => named(effective)))
    return `${call}: ${[...sets].join(', ')}`
  })
  return `| ${verb} | ${said.join('; ') || 'none'} | ${seen.join('; ')} |`
}
