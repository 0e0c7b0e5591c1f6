import { lstatSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'

import { basename, join } from 'node:path'
import { parseMountinfo } from '../../src/kernel/procfs/mountinfo.ts'
import { ID_COUNT } from '../../src/runtimes/flags.ts'
import { readRange } from '../../src/runtimes/launch/ids.ts'

import { lines } from './lines.ts'
import { MARKED } from './mark.ts'
import { list, read } from './processes.ts'

/** Those of the file systems that hold what tells of a change. */
const ON_DISK = new Set(['ext4', 'xfs', 'btrfs', 'tmpfs', 'devtmpfs', 'overlay', 'ext2', 'ext3'])
/** Deeper than that nobody finds a directory by chance. */
const DEPTH = '4'
const FIRST = readRange().uid

/** Where the file systems of the host are, without those that are mounted in the temporary directory. */
export const hostPoints = (): string[] => {
  const mounts = parseMountinfo(read('/proc/self/mountinfo'))
  const points = mounts.filter(({ type, root }) => ON_DISK.has(type) && root === '/').map(({ point }) => point)
  return [...new Set(points)].filter((point) => !point.startsWith(tmpdir()))
}

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false

/** Also one whose name was mutated, so that it lost the mark. */
function isNodeOfContainer(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  const isNode = stat?.isCharacterDevice() || stat?.isBlockDevice()
  return isNode === true && stat!.uid >= FIRST && stat!.uid < FIRST + ID_COUNT
}

/** What bears the mark of the attack, and lies where the container has nothing. */
export class Strays {
  /** Where everybody may write, and where others have their trees. */
  readonly #likely: readonly string[]
  readonly #own: readonly string[]
  readonly #before: ReadonlySet<string>
  readonly #seen = new Set<string>()

  /**
   * @param own directories in which it may make what it likes
   * @param others directories that are nobody's but of other containers
   */
  constructor(own: readonly string[], others: readonly string[]) {
    this.#own = own
    const open = lines('find', [...hostPoints(), '-xdev', '-maxdepth', DEPTH, '-type', 'd', '-perm', '-0002'])
    this.#likely = ['/', '/run', tmpdir(), ...open, ...others.flatMap((path) => [path, join(path, 'tmp')])]
    this.#before = new Set(this.#listed())
  }

  #listed(): string[] {
    const all = this.#likely.flatMap((path) => list(path).map((name) => join(path, name)))
    return all.filter((path) => basename(path).startsWith(MARKED) || isNodeOfContainer(path))
  }

  look(): string[] {
    return this.#foreign(this.#listed().filter((path) => !this.#before.has(path)))
  }

  /** Everywhere; takes long. */
  lookAll(): string[] {
    const points = [...hostPoints(), tmpdir()].filter(isDirectory)
    return this.#foreign(lines('find', [...points, '-xdev', '-name', `${MARKED}*`]))
  }

  #foreign(found: readonly string[]): string[] {
    const strays = [...new Set(found)].filter((path) => !this.#own.some((own) => path.startsWith(`${own}/`)))
    for (const path of strays) this.#seen.add(path)
    return strays
  }

  remove(): void {
    for (const path of this.#seen) rmSync(path, { recursive: true, force: true })
  }
}
