import fc from 'fast-check'
import { allowedBy } from '../../src/policy/attributes.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { rulesFor } from '../../src/syscalls/index.ts'
import { type DiskType, diskTypes } from './disks.ts'
import { newName, scenes, unobstructed, weighted, withAims } from './generate.ts'
import { type CapSet, type Last, type Scene, targets, type Who } from './scene.ts'
import { LISTED, type ObjectAttributes } from './tree.ts'

export const policy: Policy = {
  setxattr: { allowed: new Set(['security.NTACL', 'trusted.glusterfs.*']), read: true },
}
const OPAQUE = 'trusted.overlay.opaque'

/** How the inode is named. `empty`: setxattrat(2) with AT_EMPTY_PATH and an empty path, or with none. */
const ways = [
  'path',
  'link',
  'handle',
  'descriptor',
  'badDescriptor',
  'at',
  'atLink',
  'atEmpty',
  'atNull',
  'atBad',
] as const
type Naming = (typeof ways)[number]
const operations = ['set', 'get', 'list', 'remove'] as const
type Operation = (typeof operations)[number]
type Pointer = 'good' | 'null' | 'unmapped' | 'edge' | 'cross'

export interface XattrCase {
  readonly scene: Scene
  readonly disk: DiskType
  readonly object: ObjectAttributes
  readonly operation: Operation
  readonly naming: Naming
  readonly name: string
  readonly namePointer: Pointer
  readonly value: string
  readonly valuePointer: Pointer
  /** Of the value, or of the buffer. */
  readonly size: number
  readonly flags: number
}

const pointer = (good: number): fc.Arbitrary<Pointer> =>
  weighted([good, 'good'], [1, 'null'], [1, 'unmapped'], [1, 'cross'], [2, 'edge'])

const caps = weighted<CapSet>(
  [10, 'admin'],
  [5, 'all'],
  [2, 'adminOverride'],
  [2, 'adminSearch'],
  [1, 'none'],
  [1, 'allButAdmin'],
)

/** Mostly something that is there. */
const last: fc.Arbitrary<Last> = fc.oneof(
  { withCrossShrink: true },
  {
    weight: 20,
    arbitrary: fc.record({ kind: fc.constant('there' as const), target: fc.constantFrom(...targets) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('thereSlash' as const), target: fc.constantFrom(...targets) }),
  },
  { weight: 1, arbitrary: newName },
)

const object: fc.Arbitrary<ObjectAttributes> = fc.record({
  user: weighted<Who>([6, 'root'], [3, 'user'], [1, 'host']),
  group: weighted<Who>([6, 'root'], [2, 'shared'], [1, 'host']),
  mode: weighted([4, 0o644], [2, 0o000], [1, 0o777], [1, 0o600]),
  flag: weighted<'immutable' | 'append' | undefined>([12, undefined], [1, 'immutable'], [1, 'append']),
  opaque: weighted<string | undefined>([4, undefined], [5, 'y'], [1, 'longer than its usual value']),
  listed: weighted<string | undefined>([5, undefined], [5, 'a value']),
})

const names = weighted(
  [60, OPAQUE],
  [40, LISTED[0]!],
  [40, LISTED[1]!],
  [2, 'trusted.glusterfs.'],
  [1, 'trusted.glusterfs'],
  [1, 'security.NTACLs'],
  [1, 'trusted.overlay.redirect'],
  [1, 'security.SMACK64'],
  [1, 'trusted.overlay.opaqu'],
  [1, 'trusted.overlay.opaquex'],
  [1, 'user.overlay.opaque'],
  [1, 'user.'],
  [1, 'nonsense'],
  [1, ''],
  [1, `trusted.${'n'.repeat(247)}`],
  [1, `trusted.${'n'.repeat(248)}`],
)

const frequency: Partial<Record<Naming, number>> = { path: 24, link: 12, badDescriptor: 1, atBad: 1, handle: 2 }

/** Simple cases are the most frequent ones, or hardly one would get to its end. */
const usual: fc.Arbitrary<XattrCase> = fc.record({
  scene: scenes(caps, last),
  disk: fc.constantFrom(...diskTypes),
  object,
  operation: weighted<Operation>([8, 'set'], [3, 'get'], [2, 'list'], [3, 'remove']),
  naming: weighted(...ways.map((way) => [frequency[way] ?? 4, way] as const)),
  name: names,
  namePointer: pointer(150),
  value: weighted([40, 'y'], [1, 'x'], [1, 'yes'], [1, '']),
  valuePointer: pointer(150),
  size: weighted([40, 1], [6, 0], [8, 64], [4, 7], [4, 300], [2, 1000], [1, 65_537]),
  flags: weighted([20, 0], [10, 1], [6, 2], [1, 3], [1, 4], [1, -1]),
})

/** By who may, on a file that has the attribute. */
const served = (one: XattrCase, scene = unobstructed(one.scene)): XattrCase => ({
  ...one,
  scene: { ...scene, last: { kind: 'there', target: 'file' }, caller: { ...scene.caller, caps: 'admin' } },
  object: { user: 'root', group: 'root', mode: 0o644, flag: undefined, opaque: 'y', listed: undefined },
  operation: 'set',
  naming: 'path',
  name: OPAQUE,
  namePointer: 'good',
  value: 'y',
  valuePointer: 'good',
  size: 1,
  flags: 0,
})

export const cases: fc.Arbitrary<XattrCase> = withAims(
  usual,
  // EEXIST
  (one) => ({ ...served(one), flags: 1 }),
  // ELOOP
  (one) => served(one, { ...unobstructed(one.scene), way: 'linkLoop' }),
  // ERANGE
  (one) => {
    const { object, ...rest } = served(one)
    return { ...rest, object: { ...object, opaque: 'longer than its usual value' }, operation: 'get', size: 7 }
  },
  // EROFS
  (one) => served(one, { ...unobstructed(one.scene), mount: { kind: 'readOnly', over: 0 } }),
)

const byDescriptor: readonly Naming[] = ['handle', 'descriptor', 'badDescriptor']
export const namesDescriptor = ({ naming }: XattrCase): boolean => byDescriptor.includes(naming)
export const namesAt = ({ naming }: XattrCase): boolean => naming.startsWith('at')

/** The call of the operation, by how it names the inode. */
export function callName(one: XattrCase): string {
  const operation = `${one.operation}xattr`
  if (namesAt(one)) return `${operation}at`
  if (namesDescriptor(one)) return `f${operation}`
  return one.naming === 'link' ? `l${operation}` : operation
}

/** The size that a call is given: a value of another length would only be cut or read beyond. */
export const sizeOf = ({ operation, value, size }: XattrCase): number =>
  operation === 'set' && size <= 1 ? Math.min(size, value.length) || value.length : size

/** Is the call handed to us at all? */
export function isTrapped(one: XattrCase): boolean {
  const name = callName(one)
  return rulesFor(policy).some((rule) => rule.name === name && (!rule.when || sizeOf(one) === 1))
}

/** Does it ask for what only CAP_SYS_ADMIN of the host's own user namespace gives, and we give to a container? */
export function asksForServed(one: XattrCase): boolean {
  const { operation, name, value } = one
  if (operation === 'list') return true
  if (name === OPAQUE) return operation !== 'set' || (value.startsWith('y') && sizeOf(one) === 1)
  const isToldToAll = operation === 'get' && name.startsWith('security.')
  return !isToldToAll && allowedBy(policy.setxattr!.allowed, name) !== undefined
}
