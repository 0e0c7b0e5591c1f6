import { InvalidArgumentError } from 'commander'

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** `512m`, `2G`, `123MiB`, `1048576`: bytes, with the units of podman. */
export function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+)(?:([kmgt])i?)?b?$/i.exec(text) ?? []
  if (!Number(number)) throw new InvalidArgumentError('It must be a size such as 512m or 2g.')
  return Number(number) * UNITS[unit.toLowerCase()]!
}

/** `UID[:GID]`, numbers of the container; without a group the one of the same number. */
export function parseUser(text: string): { uid: number; gid: number } {
  const [, uid, gid = uid] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? []
  if (!uid || Number(uid) > 65_535 || Number(gid) > 65_535) {
    throw new InvalidArgumentError('It must be UID[:GID], numbers up to 65535.')
  }
  return { uid: Number(uid), gid: Number(gid) }
}

/** `KEY=VALUE`, or `KEY` to pass on our own. */
export function parseEnv(text: string, earlier: readonly string[] = []): string[] {
  if (text.includes('=')) return [...earlier, text]
  const own = process.env[text]
  return own === undefined ? [...earlier] : [...earlier, `${text}=${own}`]
}

/** Host names cannot hold more, and the runtimes take no other names of containers. */
export function parseName(text: string): string {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}$/i.test(text)) throw new InvalidArgumentError('It must be a host name.')
  return text
}

/** An option that may be given several times. */
export const collect = (text: string, earlier: readonly string[] = []): string[] => [...earlier, text]
