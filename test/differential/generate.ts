import fc from 'fast-check'
import {
  type AccessAcl,
  bindKinds,
  type CapSet,
  type Credentials,
  type DefaultAcl,
  type Directory,
  type Inside,
  type Last,
  type Scene,
  starts,
  targets,
  tmpfsKinds,
  type Who,
  ways,
} from './scene.ts'

/** Constants, each as often as its weight says; shrinks towards the first. */
export const weighted = <T>(...choices: readonly (readonly [weight: number, value: T])[]): fc.Arbitrary<T> =>
  fc.oneof({ withCrossShrink: true }, ...choices.map(([weight, value]) => ({ weight, arbitrary: fc.constant(value) })))

/** `usual` cases, and among forty of them one of each aim: for results that few would give, but every seed must. */
export const withAims = <C>(usual: fc.Arbitrary<C>, ...aims: readonly ((one: C) => C)[]): fc.Arbitrary<C> =>
  fc.oneof(
    { withCrossShrink: true },
    { weight: 40 - aims.length, arbitrary: usual },
    ...aims.map((aim) => ({ weight: 1, arbitrary: usual.map(aim) })),
  )

const rarely = <T>(value: fc.Arbitrary<T>, weight = 1): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { weight: 8, arbitrary: fc.constant(undefined) }, { weight, arbitrary: value })

/** Most directories let most callers in: else hardly a case would get to its end. */
const directoryMode = fc.oneof(
  { withCrossShrink: true },
  {
    weight: 9,
    arbitrary: weighted(
      [6, 0o755],
      [5, 0o777],
      [2, 0o1777],
      [2, 0o2775],
      [3, 0o2777],
      [2, 0o700],
      [1, 0o770],
      [1, 0o775],
      [1, 0o555],
      [1, 0o711],
      [1, 0o705],
      [1, 0o3777],
      [1, 0o000],
    ),
  },
  { weight: 1, arbitrary: fc.nat(0o7777) },
)

const who = weighted<Who>([5, 'root'], [3, 'user'], [1, 'other'], [2, 'host'])
const group = weighted<Who>([5, 'root'], [2, 'user'], [2, 'shared'], [2, 'host'])

const directory: fc.Arbitrary<Directory> = fc.record({
  user: who,
  group,
  mode: directoryMode,
  access: rarely(fc.constantFrom<AccessAcl>('letsUser', 'letsShared', 'barsUser')),
  defaults: rarely(fc.constantFrom<DefaultAcl>('wide', 'narrow', 'named')),
  immutable: fc.oneof({ weight: 30, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
})

const mount = rarely(
  fc.record({
    kind: weighted(
      ...bindKinds.map((kind) => [kind === 'narrow' ? 3 : 2, kind] as const),
      ...tmpfsKinds.map((kind) => [kind === 'full' ? 4 : 1, kind] as const),
    ),
    over: fc.nat(3),
  }),
  6,
)

/** Any byte but NUL, which ends a path, and the slash. */
const nameByte = fc.integer({ min: 1, max: 254 }).map((byte) => (byte === 0x2f ? 255 : byte))

/** Mostly names that are not there yet. */
export const newName: fc.Arbitrary<Last> = fc.oneof(
  { withCrossShrink: true },
  { weight: 2, arbitrary: fc.constant<Last>({ kind: 'name', bytes: [0x6e] }) },
  {
    weight: 16,
    arbitrary: fc.record({
      kind: fc.constant('name' as const),
      bytes: fc.array(nameByte, { minLength: 1, maxLength: 12, size: 'max' }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('there' as const), target: fc.constantFrom(...targets) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('thereSlash' as const), target: fc.constantFrom(...targets) }),
  },
  {
    weight: 5,
    arbitrary: fc
      .constantFrom('slash', 'slashes', 'dot', 'dotDot', 'nothing', 'name255', 'name255', 'name256')
      .map((kind) => ({ kind }) as Last),
  },
)

const umask = fc.oneof(
  { withCrossShrink: true },
  { weight: 4, arbitrary: fc.constantFrom(0, 0o022, 0o027, 0o077, 0o002, 0o777, 0o111) },
  { weight: 1, arbitrary: fc.nat(0o777) },
)

const credentials = (caps: fc.Arbitrary<CapSet>): fc.Arbitrary<Credentials> =>
  fc.record({
    uid: weighted<Inside>([4, 'root'], [3, 'user'], [1, 'other']),
    gid: weighted<Inside>([3, 'root'], [2, 'user'], [1, 'shared']),
    groups: fc.subarray<Inside>(['shared', 'user', 'root']),
    caps,
    umask,
  })

/**
 * Simple ways are as frequent as all others together, so that what is at their end is tested too.
 *
 * @param caps of the callers
 * @param last how their paths end
 */
export const scenes = (caps: fc.Arbitrary<CapSet>, last: fc.Arbitrary<Last>): fc.Arbitrary<Scene> =>
  fc.record({
    fileSystem: weighted([4, 'memory'], [3, 'disk'], [1, 'overlay']),
    directories: fc.array(directory, { minLength: 1, maxLength: 4, size: 'max' }),
    mount,
    start: weighted(...starts.map((start, index) => [index < 2 ? 6 : 1, start] as const)),
    at: fc.nat(4),
    way: weighted(...ways.map((way, index) => [index === 0 ? 12 : 1, way] as const)),
    links: weighted([1, 2], [2, 39], [2, 40], [2, 41], [1, 60]),
    last,
    length: weighted([40, 0], [1, 4094], [1, 4095], [1, 4096], [1, 4097], [1, 6000]),
    pointer: weighted([60, 'good'], [1, 'null'], [1, 'unmapped'], [1, 'cross'], [2, 'edge']),
    caller: credentials(caps),
  })

/** The same scene with nothing in the way of its caller, who is root of the container. */
export const unobstructed = (scene: Scene): Scene => ({
  ...scene,
  directories: scene.directories.map(() => ({ user: 'root', group: 'root', mode: 0o777 })),
  mount: undefined,
  start: 'relative',
  way: 'plain',
  length: 0,
  pointer: 'good',
  caller: { ...scene.caller, uid: 'root' },
})
