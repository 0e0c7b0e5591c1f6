import { InvalidArgumentError } from 'commander'

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** Parses a size with podman's units, such as `512m`, `2G`, `123MiB` or `1048576`. @returns bytes */
export function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+)(?:([kmgt])i?)?b?$/i.exec(text) ?? []
  if (!Number(number)) throw new InvalidArgumentError('It must be a size such as 512m or 2g.')
  return Number(number) * UNITS[unit.toLowerCase()]!
}

/** Parses `UID[:GID]`, ids of the container. Without GID, the group has the number of the user. */
export function parseUser(text: string): { uid: number; gid: number } {
  const [, uid, gid = uid] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? []
  if (!uid || Number(uid) > 65_535 || Number(gid) > 65_535) {
    throw new InvalidArgumentError('It must be UID[:GID], numbers up to 65535.')
  }
  return { uid: Number(uid), gid: Number(gid) }
}

/** Parses `KEY=VALUE`, or `KEY`, which passes on the variable of our own environment. */
export function parseEnv(text: string, earlier: readonly string[] = []): string[] {
  if (text.includes('=')) return [...earlier, text]
  const own = process.env[text]
  return own === undefined ? [...earlier] : [...earlier, `${text}=${own}`]
}

/** Parses the name of a container: a host name of at most 64 bytes, in the characters that runtimes allow. */
export function parseName(text: string): string {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}$/i.test(text)) throw new InvalidArgumentError('It must be a host name.')
  return text
}

/** Collects the values of an option that may be repeated. */
export const collect = (text: string, earlier: readonly string[] = []): string[] => [...earlier, text]
