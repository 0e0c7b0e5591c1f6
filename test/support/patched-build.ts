// A copy of the build with a line replaced: for faults that cannot be had otherwise, and to show that a test can fail.

import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { until } from './host.ts'
import { stateOf } from './stat.ts'

const once = (statement: string): string => `{
  let isFirst = true
  try { process.getBuiltinModule('fs').mkdirSync(import.meta.dirname + '/failed') } catch { isFirst = false }
  if (isFirst) ${statement}
}`

/** A statement that throws where it is run first, in whichever process of a build. */
export const FAILS_ONCE = once("throw new Error('of a test')")
/** The same, but its process ends there. */
export const ENDS_ONCE = once("process.kill(process.pid, 'SIGKILL')")

const BUNDLE = fileURLToPath(new URL('../../scripts/bundle.js', import.meta.url))

/** In the module `file`, `from` stands once; `to` takes its place. */
export type Patch = readonly [file: string, from: string, to: string]

/** Replaces what stands once in a file. */
export function rewrite(file: string, from: string, to: string): void {
  const parts = readFileSync(file, 'utf8').split(from)
  if (parts.length !== 2) throw new Error(`Cannot change ${file}: "${from}" stands there ${parts.length - 1} times`)
  writeFileSync(file, parts.join(to))
}

/** A build of its own of which some modules are others. */
export class PatchedBuild {
  readonly url: URL
  readonly #directory: string

  constructor(file: string, from: string, to: string, ...more: readonly Patch[]) {
    const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
    mkdirSync(cache, { recursive: true })
    this.#directory = mkdtempSync(join(cache, 'intercede-patched-'))
    // A walker must be able to read it.
    chmodSync(this.#directory, 0o755)
    this.url = pathToFileURL(`${this.#directory}/dist/`)
    cpSync(new URL('../../out', import.meta.url), join(this.#directory, 'out'), { recursive: true })
    for (const patch of [[file, from, to], ...more] as const) this.#apply(patch)
    execFileSync(process.execPath, [BUNDLE, this.#directory])
  }

  #apply([file, from, to]: Patch): void {
    rewrite(join(this.#directory, 'out', file), from, to)
  }

  /** The program `intercede` of this build, for Node. */
  get program(): string {
    for (const name of ['bin', 'package.json'])
      cpSync(new URL(`../../${name}`, import.meta.url), join(this.#directory, name), { recursive: true })
    return join(this.#directory, 'bin/intercede.js')
  }

  /** What the engine starts is read from here. */
  async remove(engine: number | undefined): Promise<void> {
    await until('the engine is gone', () => engine === undefined || stateOf(engine) === '')
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
