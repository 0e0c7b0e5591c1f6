import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { ID_COUNT } from '../flags.ts'
import { makeDirectory } from '../text-file.ts'

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
function writeRecord({ uid, gid }: IdRange): string | undefined {
  const next = `${IDS_RECORD}.${process.pid}`
  try {
    makeDirectory(dirname(IDS_RECORD))
    writeFileSync(next, `${uid} ${gid}\n`, { mode: 0o644 })
    renameSync(next, IDS_RECORD)
    return undefined
  } catch (error) {
    const why = (error as Error).message
    return `the ids of containers could not be recorded, so a later line in /etc/subuid may change them: ${why}`
  }
}

/**
 * The first id if no file has an entry for us and none is recorded. It lies above useradd's subordinate ids (100,000
 * to 600,100,000), LXD's and systemd-nspawn's (524,288 to 1,879,048,191), and below systemd's foreign ids
 * (2,147,352,576) and 2^31.
 */
export const DEFAULT_FIRST = 2_000_000_000

/** The user whose entries we use. Those of `containers` are podman's, which gives them to other containers. */
const OWNER = 'intercede'

interface SubidEntry {
  readonly owner: string
  readonly first: number
  readonly count: number
}

/** Parses a subid file. @throws {Error} with its number for a line that is not `owner:first:count` */
function parseSubids(text: string, file: string): SubidEntry[] {
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '' || line.startsWith('#')) return []
    const [, owner, first, count] = /^([^:]+):(\d{1,10}):(\d{1,10})$/.exec(line.trim()) ?? []
    if (!owner) throw new Error(`Cannot read ${file}: line ${index + 1} is not "owner:first:count"`)
    return [{ owner, first: Number(first), count: Number(count) }]
  })
}

/** Finds an entry of another owner that has some of our ids. */
const rivalOf = (entries: readonly SubidEntry[], from: number): SubidEntry | undefined =>
  entries.find(({ owner, first, count }) => owner !== OWNER && first < from + ID_COUNT && first + count > from)

/**
 * Returns the first of our entry's ids; undefined if the file has no entry for us.
 *
 * @throws {Error} if our entry is too small, or includes ids of the host itself
 */
function ownFirst(entries: readonly SubidEntry[], file: string): number | undefined {
  const own = entries.find(({ owner }) => owner === OWNER)
  if (!own) return undefined
  const { first, count } = own
  if (count < ID_COUNT) {
    throw new Error(`Cannot use the ids of "${OWNER}" in ${file}: ${count} are too few, a container needs ${ID_COUNT}`)
  }
  if (first < ID_COUNT) {
    throw new Error(`Cannot use the ids of "${OWNER}" in ${file}: ${first} is an id of a user of the host`)
  }
  return first
}

/** @throws {Error} if another owner has ids of the range: its containers could reach each other's files */
function checkDisjoint(entries: readonly SubidEntry[], file: string, first: number): void {
  const rival = rivalOf(entries, first)
  if (!rival) return
  throw new Error(
    `Cannot use the ids from ${first} for containers of run: "${rival.owner}" has them in ${file}; ` +
      `let the lines "${OWNER}:FIRST:${ID_COUNT}" of /etc/subuid and /etc/subgid have a FIRST that no other line has`,
  )
}

/** What the ids of containers are chosen from. */
interface IdSources {
  /** The texts of both files. */
  readonly subuid: string
  readonly subgid: string
  /** The ids of the last run, if there was a run. */
  readonly recorded?: IdRange | undefined
}

/**
 * Chooses the container's ids: those of our entries, which both files or neither must have; else those of the last
 * run; else the default.
 *
 * @throws {Error} if our entries are not usable, or another owner has some of the ids
 */
export function chooseRange({ subuid, subgid, recorded }: IdSources): IdRange {
  const uids = parseSubids(subuid, '/etc/subuid')
  const gids = parseSubids(subgid, '/etc/subgid')
  const [uid, gid] = [ownFirst(uids, '/etc/subuid'), ownFirst(gids, '/etc/subgid')]
  if ((uid === undefined) !== (gid === undefined)) {
    const [has, lacks] = uid === undefined ? ['/etc/subgid', '/etc/subuid'] : ['/etc/subuid', '/etc/subgid']
    throw new Error(`Cannot choose ids for the container: ${has} has a line for it, ${lacks} has none`)
  }
  const usual = recorded ?? { uid: DEFAULT_FIRST, gid: DEFAULT_FIRST }
  const chosen = { uid: uid ?? usual.uid, gid: gid ?? usual.gid }
  checkDisjoint(uids, '/etc/subuid', chosen.uid)
  checkDisjoint(gids, '/etc/subgid', chosen.gid)
  return chosen
}

const isSame = (one: IdRange, other: IdRange): boolean => one.uid === other.uid && one.gid === other.gid
const show = ({ uid, gid }: IdRange): string => (uid === gid ? `${uid}` : `${uid} (users) and ${gid} (groups)`)

/** Says what a change of the ids means; undefined if nothing changes. */
export function changeOf(ids: IdRange, { recorded }: IdSources): string | undefined {
  if (!recorded || isSame(ids, recorded)) return undefined
  return (
    `the ids of containers start at ${show(ids)}, before at ${show(recorded)}, because of a line "${OWNER}" in ` +
    '/etc/subuid and /etc/subgid: files that were given to the containers must be given to the new ids (chown)'
  )
}

/** @param read returns the text of a file; empty if it is not there */
export const sourcesFrom = (read: (file: string) => string): IdSources => ({
  subuid: read('/etc/subuid'),
  subgid: read('/etc/subgid'),
  recorded: parseRecord(read(IDS_RECORD)),
})

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

/** Returns the ids that the next container gets. */
export const readRange = (): IdRange => chooseRange(sourcesFrom(readIfThere))

/**
 * Returns the ids of a container that starts now, and records them, so that a line of another owner does not move
 * them later.
 *
 * @param say is told if they are others than before
 */
export function claimRange(say: (text: string) => void): IdRange {
  const sources = sourcesFrom(readIfThere)
  const ids = chooseRange(sources)
  if (sources.recorded && isSame(ids, sources.recorded)) return ids
  const change = changeOf(ids, sources)
  if (change !== undefined) say(change)
  const failed = writeRecord(ids)
  if (failed !== undefined) say(failed)
  return ids
}
