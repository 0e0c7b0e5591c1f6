import { readFileSync } from 'node:fs'
import { ID_COUNT } from '../flags.ts'

/**
 * The first id if no file has an entry for us. It lies above useradd's subordinate ids (100,000 to 600,100,000),
 * LXD's and systemd-nspawn's (524,288 to 1,879,048,191), and below systemd's foreign ids (2,147,352,576) and 2^31.
 */
export const DEFAULT_FIRST = 2_000_000_000

/** The users whose entries we use, preferred first; Debian and podman use `containers` for such ranges. */
const OWNERS = ['intercede', 'containers']

interface SubidEntry {
  readonly owner: string
  readonly first: number
  readonly count: number
}

export interface IdRange {
  readonly uid: number
  readonly gid: number
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

function overlaps({ first, count }: SubidEntry): boolean {
  return first < DEFAULT_FIRST + ID_COUNT && first + count > DEFAULT_FIRST
}

/**
 * Returns the first of our entry's ids; undefined if the file has no entry for us.
 *
 * @throws {Error} if our entry is too small, or includes ids of the host itself
 */
function chooseFirst(entries: readonly SubidEntry[], file: string): number | undefined {
  const own = OWNERS.map((name) => entries.find(({ owner }) => owner === name)).find((entry) => entry)
  if (!own) return undefined
  const { owner, first, count } = own
  if (count < ID_COUNT) {
    throw new Error(`Cannot use the ids of "${owner}" in ${file}: ${count} are too few, a container needs ${ID_COUNT}`)
  }
  if (first < ID_COUNT) {
    throw new Error(`Cannot use the ids of "${owner}" in ${file}: ${first} is an id of the host itself`)
  }
  return first
}

function checkDefault(entries: readonly SubidEntry[], file: string): void {
  const other = entries.find(overlaps)
  if (!other) return
  throw new Error(
    `Cannot use the default ids from ${DEFAULT_FIRST}: "${other.owner}" has them in ${file}: ` +
      `add a line "intercede:FIRST:${ID_COUNT}" to /etc/subuid and /etc/subgid`,
  )
}

/**
 * Chooses the container's ids from the texts of both files, of which both or neither must have an entry for us.
 *
 * @throws {Error} if the entries are not usable, or another owner has ids of the default range
 */
export function chooseRange(subuid: string, subgid: string): IdRange {
  const files = { '/etc/subuid': subuid, '/etc/subgid': subgid }
  const parsed = Object.entries(files).map(([file, text]) => ({ file, entries: parseSubids(text, file) }))
  const [uid, gid] = parsed.map(({ file, entries }) => chooseFirst(entries, file))
  if (uid !== undefined && gid !== undefined) return { uid, gid }
  if (uid !== undefined || gid !== undefined) {
    const [has, lacks] = uid === undefined ? ['/etc/subgid', '/etc/subuid'] : ['/etc/subuid', '/etc/subgid']
    throw new Error(`Cannot choose ids for the container: ${has} has a line for it, ${lacks} has none`)
  }
  for (const { file, entries } of parsed) checkDefault(entries, file)
  return { uid: DEFAULT_FIRST, gid: DEFAULT_FIRST }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

export const readRange = (): IdRange => chooseRange(readIfThere('/etc/subuid'), readIfThere('/etc/subgid'))
