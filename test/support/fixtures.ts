import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const sources = fileURLToPath(new URL('../fixtures/', import.meta.url))
const cache = fileURLToPath(new URL('../node_modules/.cache/intercede-fixtures/', import.meta.url))

function inPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/**
 * Why a test that needs these programs cannot run here, or undefined if it can:
 * `test.skipIf(missing('gcc', 'crun'))`, with the reason in the test's name.
 */
export function missing(...programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => !inPath(program))
  return absent.length ? `not installed: ${absent.join(', ')}` : undefined
}

/** A source with all that it includes of the same folder. */
function textOf(name: string): string {
  const text = readFileSync(join(sources, name), 'utf8')
  return [text, ...[...text.matchAll(/^#include "(.+)"$/gm)].map(([, included]) => textOf(included!))].join('')
}

/**
 * The path of a C program of test/fixtures/, compiled once per content and flags; what each does is told at its top.
 *
 * @param flags for the compiler, such as `-m32` (needs gcc-multilib)
 * @throws {Error} with the compiler's messages
 */
export function fixture(name: string, flags: readonly string[] = []): string {
  const source = join(sources, `${name}.c`)
  const options = ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', `-DFIXTURES="${sources}"`, ...flags]
  const digest = createHash('sha256')
    .update(textOf(`${name}.c`))
    .update(options.join(' '))
    .digest('hex')
  const path = join(cache, `${name}-${digest.slice(0, 16)}`)
  if (existsSync(path)) return path
  mkdirSync(cache, { recursive: true })
  // Test files run at once: each compiles for itself, and the last rename wins with the same bytes.
  const mine = `${path}.${process.pid}`
  const { error, status, stderr } = spawnSync('gcc', [...options, '-o', mine, source], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`Cannot compile ${name}.c: ${error?.message ?? stderr}`)
  renameSync(mine, path)
  return path
}
