import { RLIM_INFINITY } from '../abi/rlimit.ts'
import { writtenLimit } from '../policy/resource-limits.ts'

/** The bytes that two numbers of a record hold. */
const SIZE = 8
/** Ends a name that was cut; no name of a file system has this byte. */
const CUT = 1

/** Packs a name into the two numbers of a reason, for a record has no room for texts; a long name is cut. */
export function packName(name: string): readonly [a: number, b: number] {
  const bytes = Buffer.alloc(SIZE)
  bytes.write(name, 'latin1')
  if (name.length > SIZE) bytes[SIZE - 1] = CUT
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** Unpacks a name, in quotes. It comes from a container: what is not printable becomes a question mark. */
export function unpackName(a: number, b: number): string {
  const bytes = Buffer.alloc(SIZE)
  bytes.writeUInt32LE(a, 0)
  bytes.writeUInt32LE(b, 4)
  const isCut = bytes[SIZE - 1] === CUT
  const text = bytes.toString('latin1', 0, isCut ? SIZE - 1 : SIZE).replace(/\0.*$/s, '')
  return `"${text.replaceAll(/[^!#-~]/g, '?')}${isCut ? '...' : ''}"`
}

/** What a call does to one attribute, by its first letter. */
const DEEDS = { g: 'get', s: 'set', r: 'remove' } as const
export type AttributeDeed = (typeof DEEDS)[keyof typeof DEEDS]
const SECURITY = 'security.'
const TRUSTED = 'trusted.'

/**
 * Packs a deed and the name of an attribute `security.*` or `trusted.*`: one letter stands for the deed, and for
 * `security.` if it is a capital, so that as much as possible of the name fits.
 */
export function packAttribute(deed: AttributeDeed, name: string): readonly [a: number, b: number] {
  const letter = deed.charAt(0)
  return name.startsWith(SECURITY)
    ? packName(letter.toUpperCase() + name.slice(SECURITY.length))
    : packName(letter + name.slice(TRUSTED.length))
}

/** Unpacks what a call does, and the name in quotes. */
export function unpackAttribute(a: number, b: number): string {
  const [quote, letter = '', ...rest] = unpackName(a, b)
  const deed = letter.toLowerCase()
  return `${DEEDS[deed as keyof typeof DEEDS]} ${quote}${letter === deed ? TRUSTED : SECURITY}${rest.join('')}`
}

/** A limit of 64 bits is kept as 32 bits and how far they are shifted, in the bits above the resource. */
const WORD = 0xffff_ffffn
const SHIFT_AT = 8
const NO_LIMIT = 0xff

/** Packs a limit on a resource; one of more than 32 significant bits is rounded up. */
export function packLimit(resource: number, limit: bigint): readonly [a: number, b: number] {
  if (limit === RLIM_INFINITY) return [resource | (NO_LIMIT << SHIFT_AT), 0]
  let shift = 0
  while (limit > WORD << BigInt(shift)) shift++
  const rounded = (limit + (1n << BigInt(shift)) - 1n) >> BigInt(shift)
  // Rounded up, the highest number has one bit more.
  return rounded > WORD ? [resource | ((shift + 32) << SHIFT_AT), 1] : [resource | (shift << SHIFT_AT), Number(rounded)]
}

/** Unpacks a limit, as a list of a policy has it. */
export function unpackLimit(a: number, b: number): string {
  const [resource, shift] = [a & 0xff, a >>> SHIFT_AT]
  const limit = BigInt(b) << BigInt(shift)
  return writtenLimit(resource, shift === NO_LIMIT || limit > RLIM_INFINITY ? RLIM_INFINITY : limit)
}
