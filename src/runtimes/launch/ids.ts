import { readFileSync } from 'node:fs'
import { ID_COUNT } from '../flags.ts'

/** What a container needs: the ids that a Debian system uses, `nobody` (65534) among them. */

/**
 * Taken if no file names us. It lies above useradd's subordinate ids (100,000 to 600,100,000), above LXD's and above
 * systemd-nspawn's (524,288 to 1,879,048,191), and below systemd's foreign ids (2,147,352,576) and 2^31.
 */
export const DEFAULT_FIRST = 2_000_000_000

/** The users whose entries are for us, the better one first; Debian and podman use `containers` for such ranges. */
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

/** @throws {Error} for a line that is not `owner:first:count`, with its number */
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
 * The first of `ID_COUNT` ids for the container's root: our own entry, or the default where no file names us.
 *
 * @throws {Error} if our entry is too small or names the host's root, or if somebody else has the default range
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

/** Chooses from the texts of both files, which must either both name us or both not. */
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
