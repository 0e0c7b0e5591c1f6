// A copy of the build whose files can be replaced: for tests of upgrades.

import { appendFileSync, cpSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execute } from './host.ts'
import { rewrite } from './patched-build.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** A copy of the program, the files of which can be replaced, all at once. */
export class Installed {
  readonly program: string
  readonly #directory: string
  readonly #next: string

  constructor() {
    const cache = join(ROOT, 'node_modules/.cache')
    mkdirSync(cache, { recursive: true })
    this.#directory = mkdtempSync(join(cache, 'intercede-installed-'))
    this.#next = join(this.#directory, 'next')
    this.program = join(this.#directory, 'bin/intercede.js')
    for (const part of ['bin', 'dist', 'package.json']) this.#copy(part, '.')
    this.#copy('out', 'next')
  }

  /** Changes a module of the next build. @param from stands once in it */
  rewrite(file: string, from: string, to: string): void {
    rewrite(join(this.#next, 'out', file), from, to)
  }

  /** Puts a build of its own in the place of the present one. @param isWhole all of its files are of it */
  async replace(isWhole = true): Promise<void> {
    await this.prepare(isWhole)
    this.swap()
  }

  async prepare(isWhole = true): Promise<void> {
    appendFileSync(join(this.#next, 'out/keeper/log/log.js'), 'globalThis.others = (globalThis.others ?? 0) + 1\n')
    const { status, stderr } = await execute(process.execPath, [join(ROOT, 'scripts/bundle.js'), this.#next])
    if (status !== 0) throw new Error(stderr)
    if (!isWhole) appendFileSync(join(this.#next, 'dist/serve-command.js'), '// and another\n')
    cpSync(join(this.#next, 'dist'), join(this.#directory, 'dist.new'), { recursive: true })
  }

  swap(): void {
    const last = join(this.#directory, 'last')
    renameSync(join(this.#directory, 'dist'), last)
    renameSync(join(this.#directory, 'dist.new'), join(this.#directory, 'dist'))
    rmSync(last, { recursive: true })
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #copy(part: string, to: string): void {
    // Their times too, so that the code that V8 has made of the bundles still is newer.
    cpSync(join(ROOT, part), join(this.#directory, to, part), { recursive: true, preserveTimestamps: true })
  }
}
