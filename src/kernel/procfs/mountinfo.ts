/** A mount as `/proc/PID/mountinfo` shows it, proc_pid_mountinfo(5). */
export interface Mount {
  readonly id: number
  readonly parent: number
  /** The number of the file system, as MAJOR:MINOR. */
  readonly device: string
  /** The directory of the file system that is mounted. */
  readonly root: string
  readonly point: string
  readonly options: readonly string[]
  readonly type: string
  /** Options of the file system; for cgroup v1, its controllers. */
  readonly superOptions: readonly string[]
}

/** Decodes space, tab, newline, `#` and backslash, which the kernel writes as three octal digits (mangle()). */
const unquote = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/**
 * Parses one line: ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS. The source may be
 * empty. No field can forge the separator, since the kernel escapes blanks.
 *
 * @returns undefined for a line that was cut off
 */
function parseLine(line: string): Mount | undefined {
  const [left = '', right = ''] = line.split(' - ')
  const [type = '', , superOptions] = right.split(' ')
  const [id, parent, device = '', root = '', point = '', options = ''] = left.split(' ')
  if (superOptions === undefined) return undefined
  return {
    id: Number(id),
    parent: Number(parent),
    device,
    root: unquote(root),
    point: unquote(point),
    options: options.split(','),
    type,
    superOptions: superOptions.split(','),
  }
}

/** Parses all mounts. @param text in the encoding of paths that the caller needs: only ASCII characters are escaped */
export const parseMountinfo = (text: string): Mount[] =>
  text
    .split('\n')
    .map(parseLine)
    .filter((mount) => mount !== undefined)

/** Returns the mount with this id. It does not parse the others, since there may be thousands. */
export function findMount(text: string, id: number): Mount | undefined {
  const start = text.startsWith(`${id} `) ? 0 : text.indexOf(`\n${id} `) + 1
  if (start === 0 && !text.startsWith(`${id} `)) return undefined
  const end = text.indexOf('\n', start)
  return parseLine(text.slice(start, end < 0 ? text.length : end))
}
