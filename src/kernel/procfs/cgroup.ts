/** The group of a task in one hierarchy, as `/proc/PID/cgroup` shows it, proc_pid_cgroup(5). */
export interface Membership {
  /** The controllers of v1, or its `name=NAME`; none for the unified hierarchy, v2. */
  readonly controllers: readonly string[]
  /** Ends with ` (deleted)` if the group was removed, and begins with `/..` outside our cgroup namespace. */
  readonly path: string
}

/**
 * Parses lines such as `4:memory:/path` and `0::/path`. A container may name its groups with all bytes but a slash and
 * a line feed. So a path may contain colons, and a carriage return, which regular expressions take for the end of a
 * line.
 *
 * @throws {RangeError} if a line is malformed or cut off: a caller whose group is unknown must not be served as if it
 *   were in no group
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
