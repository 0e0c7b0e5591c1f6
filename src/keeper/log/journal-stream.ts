import { fstatSync } from 'node:fs'

/**
 * Tells whether a descriptor is a stream of systemd's journal, which takes `<N>` at the beginning of a line for the
 * priority of the line. The variable alone says nothing: a child inherits it, and may write elsewhere.
 *
 * @see systemd.exec(5) $JOURNAL_STREAM, sd-daemon(3)
 */
export function isJournalStream(fd: number, env: NodeJS.ProcessEnv = process.env): boolean {
  const { JOURNAL_STREAM: stream } = env
  if (!stream) return false
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return stream === `${dev}:${ino}`
}
