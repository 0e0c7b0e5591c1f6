import { readFileSync } from 'node:fs'
import { orElse } from '../kernel/error.ts'

/** The socket on which the host's daemon answers readers. */
export const FEED_SOCKET = '/run/intercede/feed.sock'
/** Where that daemon keeps history: in the file that is written now, and the one before it. */
export const HISTORY = '/var/lib/intercede'
export const HISTORY_FILES = { now: 'history.jsonl', before: 'history.1.jsonl' } as const

/** Reads a file of the installation, whose files may just be being replaced. */
const read = (path: string): string | undefined =>
  orElse(undefined, () => readFileSync(new URL(path, import.meta.url), 'utf8').trim())

/** Returns the version and the build, by which two installations of the same version differ. */
export function version(): string {
  const { version: number = '(unknown)' } = JSON.parse(read('../../package.json') ?? '{}') as { version?: string }
  return `${number} (build ${read('../build-id') ?? 'unknown: its files are being replaced'})`
}
