import { renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { makeDirectory } from '../make-directory.ts'

/** Where the ids of the last run are recorded: one line, `UID GID`. */
export const IDS_RECORD = '/var/lib/intercede/run-ids'

/** The first ids of a container on the host. */
export interface IdRange {
  readonly uid: number
  readonly gid: number
}

/**
 * Parses the record; undefined if it is empty, as where nothing was recorded yet.
 *
 * @throws {Error} if it is anything else than two numbers
 */
export function parseRecord(text: string): IdRange | undefined {
  if (text === '') return undefined
  const [, uid, gid] = /^(\d{5,10}) (\d{5,10})\n?$/.exec(text) ?? []
  if (uid === undefined || gid === undefined) {
    throw new Error(`Cannot read ${IDS_RECORD}: it is not "UID GID", the first ids of containers; correct or remove it`)
  }
  return { uid: Number(uid), gid: Number(gid) }
}

/** Records the ids, by a file that is whole at any time. @returns why that failed */
export function writeRecord({ uid, gid }: IdRange): string | undefined {
  const next = `${IDS_RECORD}.${process.pid}`
  try {
    makeDirectory(dirname(IDS_RECORD))
    writeFileSync(next, `${uid} ${gid}\n`, { mode: 0o644 })
    renameSync(next, IDS_RECORD)
    return undefined
  } catch (error) {
    const why = (error as Error).message
    return `the ids of containers could not be recorded, so that a later line in /etc/subuid may move them: ${why}`
  }
}
