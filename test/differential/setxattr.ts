import type { CallRecord } from '../../src/calls/record.ts'
import { allowedBy } from '../../src/policy/attributes.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE } from '../support/host.ts'
import { HUNG } from './conversation.ts'
import { type DiskType, diskTypes } from './disks.ts'
import { walkOf } from './path.ts'
import { Places } from './places.ts'
import { capSets, mayAdmin, mountOf, OVER_FILES, type Scene } from './scene.ts'
import { describeScene, sceneFeatures } from './scene-report.ts'
import { Served } from './served.ts'
import { callOf } from './setxattr-call.ts'
import { asksForServed, callName, cases, isTrapped, policy, sizeOf, type XattrCase } from './setxattr-case.ts'
import { xattrDifferences } from './setxattr-differences.ts'
import { type Answer, Side } from './side.ts'
import type { Outcome, Sides, Subject, Trial } from './subject.ts'
import { type Script, scriptOf } from './tree.ts'

/** What the caller got in its memory is an effect too. File systems list names in any order. */
function effectOf({ operation }: XattrCase, { result, value, bytes, effect }: Answer): Outcome {
  const names = bytes && operation === 'list' ? bytes.toString('latin1').split('\0').sort().join(' ') : undefined
  const told = names ?? bytes?.toString('hex') ?? ''
  return { result, effect: [...effect, `returned ${value ?? '-'} ${told || '-'}`] }
}

/** May a native process of the host have the very capabilities over files? Only what is mapped counts for the caller. */
function allMapped({ directories, mount }: Scene): boolean {
  return !mount && directories.every(({ user, group }) => user !== 'host' && group !== 'host')
}

const TRAPPED = ['--all-xattr']

/** Trees on one type of disk. */
class World {
  readonly #type: DiskType
  readonly #served: Served
  readonly places = new Places()
  readonly #natives: Readonly<Record<'host' | 'member', Side>>
  #ours: Side

  constructor(type: DiskType, served: Served) {
    this.#type = type
    this.#served = served
    const calls = fixture('batch-calls')
    this.#ours = this.#side('ours', served.contained(calls, true, TRAPPED))
    this.#natives = {
      host: this.#side('host', [calls, `${BASE}`]),
      member: this.#side('member', served.contained(calls, false)),
    }
  }

  #side(name: string, command: readonly string[]): Side {
    return new Side(name, this.places, command, this.#type)
  }

  ours(script: Script, call: string): Promise<Answer> {
    return this.#ours.make(script, call)
  }

  native(name: 'host' | 'member', script: Script, call: string): Promise<Answer> {
    return this.#natives[name].make(script, call)
  }

  /** After a call that did not come back. */
  async startAgain(): Promise<void> {
    await this.#ours.close()
    this.#ours = this.#side(`ours-${this.#served.calls}`, this.#served.contained(fixture('batch-calls'), true, TRAPPED))
    this.#served.skip()
  }

  async close(): Promise<void> {
    await Promise.all([this.#ours, ...Object.values(this.#natives)].map((side) => side.close()))
    this.places.remove()
  }
}

/**
 * The natives: `host`: a process of the host with the host's numbers for all ids and CAP_SYS_ADMIN makes the very call, if
 * the caller has that capability in its user namespace and asks for an attribute that is served. Capabilities over files it has like the
 * caller, where all directories are mapped; else it is not asked.
 *
 * `member`: a process of the same kind of user namespace makes the very call, wherever the kernel alone has to answer:
 * for all other attributes and values, and for callers without the capability.
 */
class XattrSides implements Sides<XattrCase> {
  readonly #served: Served
  readonly #worlds: ReadonlyMap<DiskType, World>

  constructor(served: Served) {
    this.#served = served
    this.#worlds = new Map(diskTypes.map((type) => [type, new World(type, served)]))
  }

  async run(one: XattrCase): Promise<Trial<XattrCase> | undefined> {
    const world = this.#worlds.get(one.disk)!
    const { places } = world
    const script = scriptOf(one.scene, walkOf(one.scene, places.seen(one.scene)), places, one.object)
    const [ours, ...natives] = await Promise.all([
      world.ours(script, callOf(one, places)),
      ...this.#natives(one).map(async ([name, caps]) => {
        return [name, effectOf(one, await world.native(name, script, callOf(one, places, caps)))] as const
      }),
    ])
    if (ours.result.startsWith('setup')) return undefined
    await this.#served.count(isTrapped(one) ? 1 : 0)
    const trial = { case: one, ours: effectOf(one, ours), natives: Object.fromEntries(natives) }
    if (ours.result !== HUNG) return trial
    const effect = this.#served.threads
    await world.startAgain()
    return { ...trial, ours: { result: HUNG, effect } }
  }

  /** Who makes the call natively, with which capabilities. */
  #natives(one: XattrCase): readonly (readonly ['host' | 'member', bigint | undefined])[] {
    const { scene } = one
    const { caller } = scene
    const given = mayAdmin(caller) && asksForServed(one)
    const own = capSets[caller.caps] & OVER_FILES
    if (given) return own === 0n || allMapped(scene) ? [['host', own | capSets.admin]] : []
    // Where that is exact the host is asked too: they must agree.
    return own === 0n
      ? [
          ['member', undefined],
          ['host', 0n],
        ]
      : [['member', undefined]]
  }

  record(): Promise<CallRecord | undefined> {
    return Promise.resolve(this.#served.record)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#worlds.values()].map((world) => world.close()))
    this.#served.close()
  }
}

const fileSystemOf = ({ scene, disk }: XattrCase): string => {
  const mounted = mountOf(scene)?.kind
  if (scene.fileSystem === 'memory' || mounted?.startsWith('tmpfs') || mounted === 'full') return 'tmpfs'
  return scene.fileSystem === 'overlay' ? `overlay on ${disk}` : disk
}

export const setxattr: Subject<XattrCase> = {
  name: 'setxattr',
  cases,
  start: async () => new XattrSides(await Served.start(policy)),
  counted: 'host',
  fields: ['path', 'type', 'mode', 'user', 'group', 'number', 'links', 'target', 'attributes'],
  results: [
    ...['ok', 'EACCES', 'EBADF', 'EEXIST', 'EFAULT', 'EINVAL', 'ELOOP', 'ENAMETOOLONG', 'ENODATA', 'ENOENT'],
    ...['ENOTDIR', 'EPERM', 'ERANGE', 'EROFS'],
  ],
  differences: xattrDifferences,
  features: (one) => [
    ...sceneFeatures(one.scene).filter((feature) => !feature.startsWith('file system')),
    `call ${callName(one)}${one.naming.startsWith('at') || one.naming === 'handle' ? ` ${one.naming}` : ''}`,
    `on ${fileSystemOf(one)}`,
    `flags ${one.flags}`,
    ...(allowedBy(policy.setxattr!.allowed, one.name) ? [`${one.operation} of ${one.name}`] : []),
  ],
  describe(one) {
    const { object, name, namePointer, value, valuePointer, flags, naming } = one
    const { user, group, mode, flag, opaque, listed } = object
    return [
      ...describeScene(one.scene, `${callName(one)} ${naming}`),
      `on ${fileSystemOf(one)}: ${user}:${group} ${mode.toString(8)} ${flag ?? ''} opaque=${opaque} listed=${listed}`,
      `name ${JSON.stringify(name)} ${namePointer} value ${JSON.stringify(value)} ${valuePointer} size ${sizeOf(one)} flags ${flags}`,
    ]
  },
}
