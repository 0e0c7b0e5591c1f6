// Compiles the C programs of test/fixtures/, and tells which programs are missing: for every test that makes calls.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, lstatSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const sources = fileURLToPath(new URL('../fixtures/', import.meta.url))
/**
 * Containers execute what is here: their root is another user, who may not search a private home. And scripts of tests name it
 * without quotes.
 */
export const FIXTURES =
  isOpen(sources) && /^[\w./-]+$/.test(sources)
    ? fileURLToPath(new URL('../node_modules/.cache/intercede-fixtures/', import.meta.url))
    : ownCache()

function isOpen(directory: string): boolean {
  const parent = dirname(directory)
  return (statSync(directory).mode & 0o001) !== 0 && (parent === directory || isOpen(parent))
}

/** @throws {Error} if somebody else has made it, or may write there */
function ownCache(): string {
  const uid = process.getuid!()
  const path = `/var/tmp/intercede-fixtures-${uid}`
  mkdirSync(path, { recursive: true, mode: 0o755 })
  const found = lstatSync(path)
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0)
    throw new Error(`Cannot test: ${path} is not a directory that only its owner, user ${uid}, may write to: remove it`)
  return path
}

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
 * the name of such a test has the reason (`withReason`).
 */
export function missing(...programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => !inPath(program))
  return absent.length ? `not installed: ${absent.join(', ')}` : undefined
}

/** The profile that podman brings along, for tests that need a real one; and why they cannot run. */
export const PODMAN_PROFILE = '/usr/share/containers/seccomp.json'
export const noPodmanProfile = existsSync(PODMAN_PROFILE) ? undefined : `${PODMAN_PROFILE} is not there`

/** Why a program cannot be compiled for i386: gcc-multilib brings the header that -m32 needs. */
export const no32 =
  process.arch !== 'x64' || !existsSync('/usr/include/gnu/stubs-32.h') ? 'not installed: gcc-multilib' : undefined
/** Why no process can make calls of i386 here: the file is there with CONFIG_IA32_EMULATION. */
export const noI386 = existsSync('/proc/sys/abi/vsyscall32') ? undefined : 'this kernel has no calls of i386'
export const BITS: readonly (64 | 32)[] = no32 ? [64] : [64, 32]

/** A source with all that it includes of the same folder. */
function textOf(name: string): string {
  const text = readFileSync(join(sources, name), 'utf8')
  return [text, ...[...text.matchAll(/^#include "(.+)"$/gm)].map(([, included]) => textOf(included!))].join('')
}

/**
 * The path of a C program of test/fixtures/, compiled once per content and flags; what each does is told at its top.
 *
 * @param flags for the compiler, such as `-m32` (see `no32`)
 * @param compiler gcc, or one with the same options
 * @throws {Error} with the compiler's messages
 */
export function fixture(name: string, flags: readonly string[] = [], compiler = 'gcc'): string {
  const source = join(sources, `${name}.c`)
  const options = ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', `-DFIXTURES="${sources}"`, ...flags]
  const digest = createHash('sha256')
    .update(textOf(`${name}.c`))
    .update([...options, ...(compiler === 'gcc' ? [] : [compiler])].join(' '))
    .digest('hex')
  const path = join(FIXTURES, `${name}-${digest.slice(0, 16)}`)
  if (existsSync(path)) return path
  mkdirSync(FIXTURES, { recursive: true })
  // Test files run at once: each compiles for itself, and the last rename wins with the same bytes.
  const mine = `${path}.${process.pid}`
  const { error, status, stderr } = spawnSync(compiler, [...options, '-o', mine, source], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`Cannot compile ${name}.c: ${error?.message ?? stderr}`)
  renameSync(mine, path)
  return path
}
