import { lstatSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { S_IWGRP, S_IWOTH } from '../abi/stat.ts'
import { orElse } from '../kernel/error.ts'

/** The socket on which the host's daemon answers readers. */
export const FEED_SOCKET = '/run/intercede/feed.sock'
/** Where that daemon keeps history, unless it is configured otherwise: then there is a link to that place. */
export const HISTORY = '/var/lib/intercede'
export const HISTORY_LINK = 'elsewhere'
/** The file that is written now, and the one before it. */
export const HISTORY_FILES = { now: 'history.jsonl', before: 'history.1.jsonl' } as const

/**
 * Returns where a daemon kept history last. Only a link that nobody but root, or we, can have made is believed.
 *
 * @param usual the directory where it is unless there is a link
 */
export function lastHistory(usual: string = HISTORY): string {
  return orElse(usual, () => {
    const link = join(usual, HISTORY_LINK)
    const [directory, made] = [statSync(usual), lstatSync(link)]
    const isOwn = [directory, made].every(({ uid }) => uid === 0 || uid === process.geteuid?.())
    return isOwn && (directory.mode & (S_IWGRP | S_IWOTH)) === 0 ? readlinkSync(link) : usual
  })
}

/** Reads a file of the installation, whose files may just be being replaced. */
const read = (path: string): string | undefined =>
  orElse(undefined, () => readFileSync(new URL(path, import.meta.url), 'utf8').trim())

/** Returns the version and the build, by which two installations of the same version differ. */
export function version(): string {
  const { version: number = '(unknown)' } = JSON.parse(read('../../package.json') ?? '{}') as { version?: string }
  return `${number} (build ${read('../build-id') ?? 'unknown: its files are being replaced'})`
}
