// Unpacks systems of Debian once for all: one without Node, where nothing of what we ship is, and one with newer runtimes.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
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

/** Whoever comes second waits for the first one. */
const UNPACK = '[ -d "$0" ] || { rm -rf "$0.new" && mmdebstrap "$@" "$0.new" "$MIRROR" && mv "$0.new" "$0"; }'

/** @returns a directory that must stay as it is: others put layers over it, too */
export const debianRoot = (): string => unpacked('--variant=minbase', `--include=${PACKAGES.join(',')}`, SUITE)

/** What a shell script needs to start them with their own libraries. */
const NEWER = ['containerd', 'crun', 'runc', 'dash', 'coreutils', 'mount', 'sed']

/**
 * containerd, crun and runc of Debian's unstable suite.
 *
 * @returns a directory that must stay as it is, whose usr can be mounted over another one
 * @throws {Error} if they cannot be installed, as on some days
 */
export const newerRuntimes = (): string =>
  // A mirror may lag, and the clock of this machine be ahead. What is signed is still checked.
  unpacked('--variant=extract', '--aptopt=Acquire::Check-Valid-Until "false"', `--include=${NEWER.join(',')}`, 'sid')

function unpacked(...options: readonly string[]): string {
  const words = ['--quiet', ...options]
  const digest = createHash('sha256').update(words.join(' ')).digest('hex')
  const root = join(CACHE, `intercede-debian-${digest.slice(0, 16)}`)
  mkdirSync(CACHE, { recursive: true })
  execFileSync('flock', [`${root}.lock`, 'sh', '-ec', UNPACK, root, ...words], {
    stdio: ['ignore', 2, 2],
    env: { ...process.env, MIRROR },
  })
  return root
}
