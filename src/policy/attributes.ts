import { XATTR_NAME_MAX } from '../abi/xattr.ts'
import { briefly } from '../shared/texts.ts'
import { elements, type ValueType, valueType } from './value-types.ts'

/** At the end of a name, it stands for every rest. */
const ANY = '*'

/**
 * What no list allows: attributes by which the kernel, or a program of the host, decides what somebody may do. Each
 * list that is read is compared with this table, and so is the name in each call.
 */
const NEVER: readonly (readonly [name: string, because: string])[] = [
  ['security.selinux', 'SELinux decides by it'],
  ['security.SMACK64*', 'Smack decides by it'],
  ['security.apparmor', 'AppArmor decides by it'],
  ['security.bpf.*', 'BPF programs of the host decide by it'],
  ['security.ima', 'the kernel measures files by it'],
  ['security.evm', 'the kernel protects other attributes by it'],
  ['security.capability', 'the kernel itself sets it, as far as a container may'],
  ['trusted.overlay.*', 'overlay file systems believe it; setxattr=true alone allows trusted.overlay.opaque'],
  ['trusted.SGI_ACL_*', 'XFS keeps access control lists in it, with ids of the host'],
]

const withoutAny = (name: string): string => (name.endsWith(ANY) ? name.slice(0, -ANY.length) : name)

/** Tells whether all names that `inner` stands for are among those of `outer`. */
const isWithin = (outer: string, inner: string): boolean =>
  outer === inner || (outer.endsWith(ANY) && inner.startsWith(withoutAny(outer)))

/** Returns the attribute that no list allows and for which this name or beginning stands too, if there is one. */
const neverOf = (name: string): (typeof NEVER)[number] | undefined =>
  NEVER.find(([never]) => isWithin(never, name) || isWithin(name, never))

/** Tells whether no list can allow an attribute. */
export const isNeverServed = (name: string): boolean => neverOf(name) !== undefined

/** Returns the entry of a list that allows an attribute, or all that another entry allows. */
export const allowedBy = (list: ReadonlySet<string>, name: string): string | undefined =>
  isNeverServed(name) ? undefined : [...list].find((entry) => isWithin(entry, name))

const NAME = /^(?:security|trusted)\.[\w.:@+-]+$/

/** Returns a name that a list can have; undefined for any other text of a container, such as several names. */
export const listable = (name: string): string | undefined =>
  NAME.test(name) && !isNeverServed(name) ? name : undefined

function attribute(text: string): string {
  const wrong = (why: string): RangeError => new RangeError(`${briefly(text)} ${why}`)
  const [, rest] = /^(?:security|trusted)\.(.*)$/.exec(text) ?? []
  if (rest === undefined)
    throw wrong('begins with neither "security." nor "trusted.", and only for these the kernel wants a privilege')
  const never = neverOf(text)
  if (never) throw wrong(`${isWithin(never[0], text) ? '' : `covers ${never[0]}, which `}cannot be listed: ${never[1]}`)
  if (rest.includes(ANY) && !/^[^*]*\.\*$/.test(text)) throw wrong(`may have "${ANY}" only at its end, after a dot`)
  if (text.length > XATTR_NAME_MAX || !NAME.test(withoutAny(text))) throw wrong('is no name of an attribute')
  return text
}

/** Leaves out names that another entry stands for, so that equal lists are written alike. */
const leastOf = (names: readonly string[]): ReadonlySet<string> =>
  new Set(names.filter((name) => !names.some((other) => other !== name && isWithin(other, name))))

/** Names of attributes, or how they begin. */
export const attributes: ValueType<ReadonlySet<string>> = valueType({
  isList: true,
  allowed: 'a list of names such as security.NTACL, and of beginnings such as trusted.glusterfs.*',
  offered: ['security.NTACL', 'trusted.glusterfs.*'],
  parse: (text) => leastOf(elements(text).map(attribute)),
  format: (names) => [...names].join(','),
  lowest: new Set(),
  lowers: (from, to) => [...to].every((name) => allowedBy(from, name) !== undefined),
  meet: (one, other) =>
    leastOf([
      ...[...one].filter((name) => allowedBy(other, name) !== undefined),
      ...[...other].filter((name) => allowedBy(one, name) !== undefined),
    ]),
})
