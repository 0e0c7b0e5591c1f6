/** A mount as `/proc/self/mountinfo` shows it, proc_pid_mountinfo(5). */
export interface Mount {
  readonly id: number
  readonly parent: number
  /** The directory of the file system that is mounted. */
  readonly root: string
  readonly point: string
  readonly options: readonly string[]
  readonly type: string
  /** Options of the file system; for cgroup v1, its controllers. */
  readonly superOptions: readonly string[]
}

/** Decodes space, tab, newline and backslash, which the kernel writes as three octal digits. */
const unquote = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

export function parseMountinfo(text: string): Mount[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ')
      const [type = '', , superOptions = ''] = right.split(' ')
      const [id, parent, , root = '', point = '', options = ''] = left.split(' ')
      return {
        id: Number(id),
        parent: Number(parent),
        root: unquote(root),
        point: unquote(point),
        options: options.split(','),
        type,
        superOptions: superOptions.split(','),
      }
    })
}
