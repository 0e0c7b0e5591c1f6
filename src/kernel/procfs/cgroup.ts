/** In which group of one hierarchy a task is, as `/proc/PID/cgroup` shows it, proc_pid_cgroup(5). */
export interface Membership {
  /** The controllers of v1, or its `name=NAME`; none for the unified hierarchy, v2. */
  readonly controllers: readonly string[]
  /** It ends with ` (deleted)` if the group is gone, and begins with `/..` outside of our cgroup namespace. */
  readonly path: string
}

/**
 * Parses lines such as `4:memory:/path` and `0::/path`. A container names its groups with any bytes but a slash and a line feed:
 * a path may hold colons, and a carriage return, which the `^`, `$` and `.` of regular expressions take for an end of line.
 *
 * @throws {RangeError} if a line is no such line, or cut off: whoever is in a group that is not known may not be served as if it
 *   were in none
 */
export function parseCgroups(text: string): readonly Membership[] {
  const lines = text.split('\n')
  if (lines.pop() !== '') throw new RangeError('Cannot read cgroup: it is cut off')
  return lines.map(parseLine)
}

function parseLine(line: string): Membership {
  const [, names, path] = /^\d+:([^:]*):(\/.*)$/s.exec(line) ?? []
  if (names === undefined || path === undefined) throw new RangeError('Cannot read cgroup: a line is no membership')
  return { controllers: names === '' ? [] : names.split(','), path }
}
