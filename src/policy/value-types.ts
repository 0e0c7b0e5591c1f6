import { briefly } from '../shared/texts.ts'
import { hostFileSystem, needsNoList } from './host-file-systems.ts'

/**
 * What a key can be set to. Settings are kept as canonical text, so a type of values compares and rewrites texts, and
 * only `parse` shows the TypeScript type: the table of keys can then hold all types of values without a cast.
 */
export interface ValueType<T> {
  /** What is allowed, as the end of the sentence "allowed is ...". */
  readonly allowed: string
  /** Whether a value has elements, which YAML may give as a list or a map. */
  readonly isList: boolean
  /** Values, or elements of a list, that a shell offers where one is to be typed: there may be others. */
  readonly offered: readonly string[]
  /** @throws {RangeError} with what is wrong, where that is more than "not allowed" */
  parse(text: string): T
  /** The one spelling of this value. */
  canonical(text: string): string
  /** The canonical text of the value that permits least. */
  readonly lowest: string
  /** Does the value `to` permit nothing that `from` does not? Both are canonical. */
  lowers(from: string, to: string): boolean
  /** The most that both values permit. Both are canonical. */
  meet(one: string, other: string): string
}

interface Definition<T> {
  readonly allowed: string
  readonly isList?: boolean
  readonly offered?: readonly string[]
  readonly parse: (text: string) => T
  readonly format: (value: T) => string
  readonly lowest: T
  readonly lowers: (from: T, to: T) => boolean
  readonly meet: (one: T, other: T) => T
}

export const valueType = <T>({
  allowed,
  isList = false,
  offered = [],
  parse,
  format,
  lowest,
  lowers,
  meet,
}: Definition<T>): ValueType<T> => ({
  allowed,
  isList,
  offered,
  parse,
  canonical: (text) => format(parse(text)),
  lowest: format(lowest),
  lowers: (from, to) => lowers(parse(from), parse(to)),
  meet: (one, other) => format(meet(parse(one), parse(other))),
})

/** The elements of a list: separated by commas, blanks around them do not count, an empty text is an empty list. */
export const elements = (text: string): readonly string[] =>
  text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')

/** LXD's spellings, so that its documentation and its users' habits hold. */
const spellings = new Map([
  ...['true', '1', 'yes', 'on'].map((text) => [text, true] as const),
  ...['false', '0', 'no', 'off'].map((text) => [text, false] as const),
])

function boolean(text: string): boolean {
  const value = spellings.get(text.trim().toLowerCase())
  if (value === undefined) throw new RangeError('not a boolean')
  return value
}

const booleanType = (lowest: boolean): ValueType<boolean> =>
  valueType({
    allowed: 'true, 1, yes, on, false, 0, no or off',
    offered: ['true', 'false'],
    parse: boolean,
    format: String,
    lowest,
    lowers: (from, to) => from === to || to === lowest,
    meet: (one, other) => (one === lowest ? one : other),
  })

/** Whether what is decided is done, or only recorded and left to the kernel, which permits less. */
export const enforcement: ValueType<'enforce' | 'observe'> = valueType({
  allowed: 'enforce or observe',
  offered: ['enforce', 'observe'],
  parse(text) {
    const value = text.trim().toLowerCase()
    if (value !== 'enforce' && value !== 'observe') throw new RangeError('not a mode')
    return value
  },
  format: String,
  lowest: 'observe',
  lowers: (from, to) => from === to || to === 'observe',
  meet: (one, other) => (one === 'observe' ? one : other),
})

/** Gives something when true. */
export const permission = booleanType(false)

/** Protects when true, so that *true* is the lower value. */
export const protection = booleanType(true)

/** @param least what permits least: a greater number permits more, or a smaller one if `most` is smaller */
export const numberWithin = (least: number, most: number): ValueType<number> => {
  const [first, last] = [Math.min(least, most), Math.max(least, most)]
  return valueType({
    allowed: `a whole number from ${first} to ${last}`,
    parse(text) {
      const value = /^-?\d+$/.test(text.trim()) ? Number(text) : Number.NaN
      if (!(value >= first && value <= last)) throw new RangeError('out of range')
      return value
    },
    format: String,
    lowest: least,
    lowers: (from, to) => (least < most ? to <= from : to >= from),
    meet: least < most ? Math.min : Math.max,
  })
}

function fileSystem(text: string): string {
  if (!/^[A-Za-z0-9][\w.-]*$/.test(text)) throw new RangeError(`${briefly(text)} is no name of a file system`)
  return text
}

/** One that the kernel has: none of Linux has capitals, so another one would never be meant by anybody. */
function kernelFileSystem(text: string): string {
  const name = fileSystem(text)
  const lower = name.toLowerCase()
  if (name === lower) return name
  throw new RangeError(`no file system has capitals as in ${briefly(name)}: write ${briefly(lower)}`)
}

/** One that is made of a device that the container was given, and of nothing else of the host. */
function mountedFileSystem(text: string): string {
  const name = kernelFileSystem(text)
  const why = hostFileSystem(name)
  if (needsNoList(name))
    throw new RangeError(`${briefly(name)} is mounted by the kernel in any user namespace: leave it out`)
  if (why === undefined) return name
  throw new RangeError(`${briefly(name)} ${why}; mount.fuse can name a program that runs in the container`)
}

/** Names as in /proc/filesystems. */
export const fileSystems: ValueType<ReadonlySet<string>> = valueType({
  isList: true,
  allowed: 'a list of file systems such as ext4,xfs',
  offered: ['ext4', 'xfs', 'btrfs', 'squashfs', 'erofs', 'vfat', 'exfat', 'iso9660', 'udf', 'f2fs', 'ntfs3', 'tmpfs'],
  parse: (text) => new Set(elements(text).map(mountedFileSystem)),
  format: (names) => [...names].join(','),
  lowest: new Set(),
  lowers: (from, to) => [...to].every((name) => from.has(name)),
  meet: (one, other) => new Set([...one].filter((name) => other.has(name))),
})

function fusePair(text: string): readonly [string, string] {
  const [name = '', ...rest] = text.split('=')
  const program = rest.join('=')
  if (!/^[\w./+-]+$/.test(program)) throw new RangeError(`${briefly(text)} does not name a program`)
  if (!/^(?:\/|[^/.][^/]*$)/.test(program))
    throw new RangeError(`${briefly(program)} is neither a name, found by PATH, nor an absolute path`)
  return [fileSystem(name), program]
}

function fuseMap(text: string): ReadonlyMap<string, string> {
  const pairs = elements(text).map(fusePair)
  const map = new Map(pairs)
  const twice = pairs.find(([name, program]) => map.get(name) !== program)
  if (twice) throw new RangeError(`${briefly(twice[0])} has two programs`)
  return map
}

/** Which FUSE program serves which file system. */
export const fusePrograms: ValueType<ReadonlyMap<string, string>> = valueType({
  isList: true,
  allowed: 'a list of FILESYSTEM=PROGRAM such as ext4=fuse2fs,squashfs=squashfuse',
  offered: ['ext4=fuse2fs', 'squashfs=squashfuse', 'ntfs=ntfs-3g', 'overlay=fuse-overlayfs', 'image=fuse2fs'],
  parse: fuseMap,
  format: (map) => [...map].map((pair) => pair.join('=')).join(','),
  lowest: new Map(),
  lowers: (from, to) => [...to].every(([name, program]) => from.get(name) === program),
  meet: (one, other) => new Map([...one].filter(([name, program]) => other.get(name) === program)),
})
