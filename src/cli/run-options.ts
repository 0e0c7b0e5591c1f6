import { InvalidArgumentError } from 'commander'
import { ociRuntimes } from '../runtimes/known/index.ts'

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** The least memory with which any runtime starts a container: with less the kernel kills it before its first word. */
const LEAST_MIB = Math.min(...ociRuntimes.map(({ leastMemoryMib }) => leastMemoryMib))

/** Parses a size with podman's units, such as `512m`, `2G`, `123MiB` or `12345678`. @returns bytes */
export function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+)(?:([kmgt])i?)?b?$/i.exec(text) ?? []
  if (!number) throw new InvalidArgumentError('It must be a size such as 512m or 2g.')
  const bytes = Number(number) * UNITS[unit.toLowerCase()]!
  if (bytes >= LEAST_MIB * UNITS.m! && Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError(`It must be at least ${LEAST_MIB}m, with less no container starts, and at most 8191t.`)
}

/** Parses a number of seconds. The limit is that of timers, 24 days. */
export function parseSeconds(text: string): number {
  if (!/^\d{1,7}$/.test(text) || Number(text) > 2_000_000) {
    throw new InvalidArgumentError('It must be a whole number of seconds up to 2000000.')
  }
  return Number(text)
}

/** Parses `UID[:GID]`, ids of the container. Without GID, the group has the number of the user. */
export function parseUser(text: string): { uid: number; gid: number } {
  const [, uid, gid = uid] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? []
  if (!uid || Number(uid) > 65_535 || Number(gid) > 65_535) {
    throw new InvalidArgumentError('It must be UID[:GID], numbers up to 65535.')
  }
  return { uid: Number(uid), gid: Number(gid) }
}

/** Parses the path of a directory in the container, which starts there. */
export function parseWorkdir(text: string): string {
  if (text.startsWith('/')) return text
  throw new InvalidArgumentError('It must be an absolute path in the container, such as /tmp.')
}

/** Parses the path of a file or directory, which an empty variable of a shell may have left empty. */
export function parsePath(text: string): string {
  if (text !== '') return text
  throw new InvalidArgumentError('It must be a path, and it is empty.')
}

/** Parses `KEY=VALUE`, or `KEY`, which passes on the variable of our own environment. */
export function parseEnv(text: string, earlier: readonly string[] = []): string[] {
  if (!/^[^=\s\p{Cc}]+(=|$)/u.test(text))
    throw new InvalidArgumentError(
      'It must be KEY=VALUE with a KEY without spaces, or the KEY of a variable of your own.',
    )
  if (text.includes('=')) return [...earlier, text]
  const own = process.env[text]
  return own === undefined ? [...earlier] : [...earlier, `${text}=${own}`]
}

/** Parses the name of a container: a host name of at most 64 bytes, in the characters that runtimes allow. */
export function parseName(text: string): string {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}$/i.test(text)) throw new InvalidArgumentError('It must be a host name.')
  return text
}

/** Parses the path of a directory of the host. */
export function parseDirectory(text: string): string {
  if (text !== '') return text
  throw new InvalidArgumentError('It must be the path of a directory.')
}

/** Collects the values of an option that may be repeated. */
export const collect = (text: string, earlier: readonly string[] = []): string[] => [...earlier, text]
