// A Debian without Node, unpacked once for all: for tests that install what we ship where nothing of it is.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { missing } from './fixtures.ts'
import { MIRROR, SUITE, unreachable } from './mirror.ts'

/** What an administrator has before: an init that boots, shells, pages that can be read, and an engine for containers. */
const PACKAGES = [
  ...['systemd-sysv', 'dbus', 'procps', 'xz-utils', 'bash-completion', 'zsh', 'fish', 'man-db', 'mandoc'],
  ...['podman', 'busybox-static'],
]
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))

/** Why there cannot be one; undefined if there can. */
export async function whyNoDebianRoot(): Promise<string | undefined> {
  return missing('mmdebstrap') ?? (await unreachable())
}

/** @returns a directory that must stay as it is: others put layers over it, too */
export function debianRoot(): string {
  const words = ['--quiet', '--variant=minbase', `--include=${PACKAGES.join(',')}`, SUITE]
  const digest = createHash('sha256').update(words.join(' ')).digest('hex')
  const root = join(CACHE, `intercede-debian-${digest.slice(0, 16)}`)
  if (existsSync(root)) return root
  mkdirSync(CACHE, { recursive: true })
  const scratch = mkdtempSync(`${root}.`)
  try {
    execFileSync('mmdebstrap', [...words, join(scratch, 'root'), MIRROR], { stdio: ['ignore', 2, 2] })
    renameSync(join(scratch, 'root'), root)
  } catch (error) {
    // Another test file has made it meanwhile.
    if (!existsSync(root)) throw error
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return root
}
