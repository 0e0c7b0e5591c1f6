import type { HostId, Mode } from '../abi/brand.ts'

type Ids = readonly [real: HostId, effective: HostId, saved: HostId, fs: HostId]

/** What `/proc/TID/status` tells of a thread, in host ids. */
export interface Status {
  readonly tgid: number
  readonly umask: Mode
  /** Real, effective, saved and file system id. */
  readonly uids: Ids
  readonly gids: Ids
  readonly groups: Uint32Array
  readonly effective: bigint
}

const NONE = new Uint32Array(0)

/**
 * Parses `/proc/TID/status`. The name in its first line cannot forge another one: the kernel escapes line feeds.
 *
 * @param text the file as it was read
 * @throws {RangeError} if a field is missing, as when the buffer was too small for a long list of groups
 * @see proc_pid_status(5)
 */
export function parseStatus(text: string): Status {
  return {
    tgid: Number(field(text, '\nTgid:\t')),
    umask: Number.parseInt(field(text, '\nUmask:\t'), 8) as Mode,
    uids: columns(field(text, '\nUid:\t')),
    gids: columns(field(text, '\nGid:\t')),
    groups: list(field(text, '\nGroups:\t')),
    effective: BigInt(`0x${field(text, '\nCapEff:\t')}`),
  }
}

function field(text: string, label: string): string {
  const start = text.indexOf(label)
  const end = text.indexOf('\n', start + label.length)
  if (start < 0 || end < 0) throw new RangeError(`Cannot read status: no ${label.trim()}`)
  return text.slice(start + label.length, end)
}

const columns = (text: string): Ids => text.split('\t').map(Number) as unknown as Ids

function list(text: string): Uint32Array {
  const words = text.trim()
  return words === '' ? NONE : Uint32Array.from(words.split(' '), Number)
}
