import type { Caller } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { optionsOf } from './mount-options.ts'

/** The invalid id -1, which the kernel refuses (EINVAL) as it would an id that the container does not map. */
const INVALID = '4294967295'
const MAXIMUM = 0xffff_ffff
const IDS = ['uid', 'gid'] as const

/**
 * Translates the `uid` and `gid` options of file systems in memory, which are ids of the mounting process's user
 * namespace: here the host's. The container's ids are translated, and the container's root is the default. Of several
 * the last counts, if the kernel takes all of them. They come first and once, for mount(2) cuts off what is longer than
 * a page.
 */
export function withHostIds(caller: Pick<Caller, 'hostId'>, parameters: readonly Parameter[]): readonly Parameter[] {
  const ids = IDS.map((kind): Parameter => {
    const given = parameters.flatMap(([key, value]) => (key === kind && value !== undefined ? [value] : []))
    const translated = (given.length === 0 ? ['0'] : given).map((text) => hostId(caller, kind, text))
    return [kind, translated.find((id) => id === INVALID) ?? translated.at(-1)!]
  })
  return [...ids, ...parameters.filter(([key, value]) => value === undefined || !isId(key))]
}

/** Translates the options of mount(2) likewise. */
export const optionsWithHostIds = (caller: Pick<Caller, 'hostId'>, type: string, options = ''): string =>
  withHostIds(caller, optionsOf(type, options))
    .map((parameter) => parameter.join('='))
    .join(',')

const isId = (key: string): key is (typeof IDS)[number] => key === 'uid' || key === 'gid'

/**
 * Reads a number of an option as the kernel does: with one `+` or none, decimal, octal after 0, hexadecimal after 0x,
 * with one line feed or none at the end, and nothing else.
 *
 * @returns undefined if the kernel refuses it, or it has more than 32 bits
 * @see linux/lib/kstrtox.c kstrtouint(), _parse_integer_fixup_radix()
 */
export function optionNumber(text: string): number | undefined {
  const [, hexadecimal, octal, decimal] = /^\+?(?:0x([\da-f]+)|(0[0-7]*)|([1-9]\d*))\n?$/i.exec(text) ?? []
  const [digits, radix] = hexadecimal ? [hexadecimal, 16] : octal ? [octal, 8] : [decimal ?? '', 10]
  const number = Number.parseInt(digits, radix)
  return number <= MAXIMUM ? number : undefined
}

function hostId(caller: Pick<Caller, 'hostId'>, kind: 'uid' | 'gid', text: string): string {
  const id = optionNumber(text)
  const known = id === undefined ? undefined : caller.hostId(kind, id)
  return known === undefined ? INVALID : String(known)
}
