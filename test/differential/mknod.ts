import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import type { CallRecord } from '../../src/calls/record.ts'
import { orElse } from '../../src/kernel/error.ts'
import { GRANTED, harmless } from '../../src/policy/devices.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE, until } from '../support/host.ts'
import { HUNG } from './conversation.ts'
import { newName, scenes, unobstructed, weighted, withAims } from './generate.ts'
import { mknodDifferences } from './mknod-differences.ts'
import { callerWords, pathArgument, walkOf } from './path.ts'
import { Places } from './places.ts'
import { type CapSet, capSets, mayMknod, overFiles, type Scene } from './scene.ts'
import { describeScene, sceneFeatures } from './scene-report.ts'
import { Served } from './served.ts'
import { Side } from './side.ts'
import type { Outcome, Sides, Subject, Trial } from './subject.ts'
import { scriptOf } from './tree.ts'

export interface MknodCase {
  readonly scene: Scene
  /** The permissions, set-id and sticky bits. */
  readonly mode: number
  readonly device: readonly [major: number, minor: number, type?: 'b']
  readonly viaMknodat: boolean
  /** What a native member of a container makes instead of the device. */
  readonly substitute: 'whiteout' | 'fifo'
}

const caps = weighted<CapSet>(
  [6, 'mknod'],
  [6, 'all'],
  [1, 'mknodOverride'],
  [1, 'mknodSearch'],
  [1, 'mknodFsetid'],
  [1, 'none'],
  [1, 'allButMknod'],
)

/** The groups of cgroup v1, whose rules a test can write. */
const CONTROLLER = '/sys/fs/cgroup/devices'
const DEVICES = existsSync(`${CONTROLLER}/devices.list`)
/** What the rules grant, so that the container may open it anyway. */
const GRANTED_BLOCK = [7, 250, 'b'] as const
const RULES = ['c *:* m', 'b *:* m', 'c 1:3 rwm', 'c 1:9 rwm', 'c 5:0 rwm', 'b 7:250 rwm']

/** A group that denies all other devices, and how to start a program in it. */
class Group {
  readonly #directory = `${CONTROLLER}/intercede-differential-${process.pid}`

  constructor() {
    if (!DEVICES) return
    mkdirSync(this.#directory)
    writeFileSync(`${this.#directory}/devices.deny`, 'a')
    for (const rule of RULES) writeFileSync(`${this.#directory}/devices.allow`, rule)
  }

  within(command: readonly string[]): readonly string[] {
    return DEVICES ? ['/bin/sh', '-c', 'echo 0 >"$0/cgroup.procs" && exec "$@"', this.#directory, ...command] : command
  }

  async remove(): Promise<void> {
    const isGone = (): boolean => orElse(false, () => rmdirSync(this.#directory) === undefined)
    if (DEVICES) await until('the group is empty', isGone)
  }
}

const usual: fc.Arbitrary<MknodCase> = fc.record({
  scene: scenes(caps, newName),
  mode: fc.oneof({ weight: 1, arbitrary: fc.constant(0o666) }, { weight: 4, arbitrary: fc.nat(0o7777) }),
  device: weighted<MknodCase['device']>(
    ...([
      [12, [1, 3]],
      [2, [5, 0]],
      [2, [1, 9]],
      [1, [1, 1]],
    ] as const),
    ...(DEVICES
      ? ([
          [6, GRANTED_BLOCK],
          [1, [7, 251, 'b']],
        ] as const)
      : []),
  ),
  viaMknodat: fc.boolean(),
  substitute: fc.constantFrom('whiteout', 'fifo'),
})

/** A device that is allowed, under a new name, by who may make it. */
function served(one: MknodCase, changes: Partial<Scene>): MknodCase {
  const scene = unobstructed(one.scene)
  const caller: Scene['caller'] = { ...scene.caller, caps: 'mknod' }
  const last: Scene['last'] = { kind: 'name', bytes: [0x6e] }
  return { ...one, device: [1, 3], scene: { ...scene, fileSystem: 'disk', caller, last, ...changes } }
}

const mknodCase: fc.Arbitrary<MknodCase> = withAims(
  usual,
  // EOVERFLOW: a user that the mount does not map
  (one) =>
    served(one, { mount: { kind: 'narrow', over: 0 }, caller: { ...one.scene.caller, uid: 'user', caps: 'mknod' } }),
  // ENOSPC
  (one) => served(one, { mount: { kind: 'full', over: 0 } }),
  // EBADF
  (one) => served(one, { start: 'badDirfd' }),
)

const NR_MKNOD = 133
const NR_MKNODAT = 259
const S_IFCHR = 0o020000
const S_IFBLK = 0o060000
const S_IFIFO = 0o010000

type Sort = 'device' | 'whiteout' | 'fifo'

function sortFor({ scene: { fileSystem, caller }, substitute }: MknodCase): Sort {
  if (!mayMknod(caller)) return 'device'
  return fileSystem === 'overlay' ? 'fifo' : substitute
}

function typeOf(sort: Sort, [, , type]: MknodCase['device']): number {
  if (sort === 'fifo') return S_IFIFO
  return sort === 'device' && type === 'b' ? S_IFBLK : S_IFCHR
}

/** mknod(2) where it can say the same, else mknodat(2). */
function callOf(one: MknodCase, sort: Sort, places: Places, caps?: bigint): string {
  const { scene, mode, device, viaMknodat } = one
  const walk = walkOf(scene, places.seen(scene))
  const type = typeOf(sort, device)
  const [major, minor] = sort === 'device' ? device : [0, 0]
  const rest = [pathArgument(scene, walk.path), `i:${type | mode}`, `i:${(major << 8) | minor}`]
  const at = viaMknodat || walk.dirfd >= 0
  const args = at ? [`i:${walk.dirfd}`, ...rest] : rest
  const words = args.map((argument) => `a=${argument}`).join(' ')
  return `case ${callerWords(scene, walk, caps)} nr=${at ? NR_MKNODAT : NR_MKNOD} ${words}`
}

/** What was made, named alike on all sides: what is there from the start has other numbers and types, or was not made. */
function normal({ result, effect }: Outcome, sort: Sort, device: MknodCase['device']): Outcome {
  if (result !== 'ok') return { result, effect }
  const type = typeOf(sort, device) >> 12
  const number = sort === 'device' ? `${device[0]}:${device[1]}` : '0:0'
  const made = new RegExp(`^(\\S+) ${type} (\\d+ \\d+ \\d+) ${number} `)
  return { result, effect: effect.map((line) => line.replace(made, '$1 made $2 - ')) }
}

/**
 * The natives: `member`: a process of the same kind of user namespace, with the same ids, groups and capabilities there,
 * makes what needs no privilege in one: a whiteout (a character device 0:0) or a FIFO. Both go through the very code of a
 * device (fs/namei.c do_mknodat(): filename_create(), may_create(), vfs_prepare_mode(), then the file system's mknod), save
 * for the two checks that ask for the missing privilege: capable(CAP_MKNOD) and the device cgroup. So everything must
 * be equal but the number of the device, and for a FIFO its type. It cannot tell what a file system thinks of real
 * devices (none of those here differs), and an overlay refuses whiteouts, so there it is always a FIFO. A caller
 * without CAP_MKNOD makes the device itself: there the kernel alone answers on both sides.
 *
 * `host`: a process of the host with the host's numbers for all ids and no capability but CAP_MKNOD makes the very
 * device. That is exact where the caller's capabilities over files could not matter, so only where it has none.
 */
class MknodSides implements Sides<MknodCase> {
  readonly #served: Served
  readonly #places = new Places()
  readonly #member: Side
  readonly #native: Side
  readonly #group = new Group()
  #ours: Side

  constructor(served: Served) {
    this.#served = served
    const calls = fixture('batch-calls')
    const sideOf = (name: string, command: readonly string[]): Side =>
      new Side(name, this.#places, this.#group.within(command))
    this.#ours = sideOf('ours', served.contained(calls, true))
    this.#member = sideOf('member', served.contained(calls, false))
    this.#native = sideOf('host', [calls, `${BASE}`])
  }

  async run(one: MknodCase): Promise<Trial<MknodCase> | undefined> {
    const { scene, device } = one
    const places = this.#places
    const script = scriptOf(scene, walkOf(scene, places.seen(scene)), places)
    const sort = sortFor(one)
    const made = async (side: Side, sort: Sort, caps?: bigint): Promise<Outcome> =>
      normal(await side.make(script, callOf(one, sort, places, caps)), sort, device)
    const caps = capSets[mayMknod(scene.caller) ? 'mknod' : 'none']
    const [ours, member, host] = await Promise.all([
      made(this.#ours, 'device'),
      made(this.#member, sort),
      overFiles(scene.caller) ? undefined : made(this.#native, 'device', caps),
    ])
    if (ours.result.startsWith('setup') && member.result === ours.result) return undefined
    await this.#served.count()
    const natives = host ? { member, host } : { member }
    if (ours.result !== HUNG) return { case: one, ours, natives }
    const effect = this.#served.threads
    await this.#startAgain()
    return { case: one, ours: { ...ours, effect }, natives }
  }

  record(): Promise<CallRecord | undefined> {
    return Promise.resolve(this.#served.record)
  }

  async #startAgain(): Promise<void> {
    await this.#ours.close()
    const command = this.#group.within(this.#served.contained(fixture('batch-calls'), true))
    this.#ours = new Side(`ours-${this.#served.calls}`, this.#places, command)
    this.#served.skip()
  }

  async close(): Promise<void> {
    await Promise.all([this.#ours, this.#member, this.#native].map((side) => side.close()))
    this.#places.remove()
    this.#served.close()
    await this.#group.remove()
  }
}

const octal = (mode: number): string => mode.toString(8)

export const mknod: Subject<MknodCase> = {
  name: 'mknod',
  cases: mknodCase,
  start: async () => new MknodSides(await Served.start({ mknod: { devices: new Set([...harmless, GRANTED]) } })),
  counted: 'member',
  fields: ['path', 'type', 'mode', 'user', 'group', 'number', 'links', 'target', 'attributes'],
  results: [
    ...['ok', 'EACCES', 'EBADF', 'EEXIST', 'EFAULT', 'ELOOP', 'ENAMETOOLONG', 'ENOENT', 'ENOSPC', 'ENOTDIR'],
    ...['EOVERFLOW', 'EPERM', 'EROFS'],
  ],
  differences: mknodDifferences,
  features: ({ scene, substitute, device }) => [
    ...[...sceneFeatures(scene), `native ${substitute}`],
    `device ${device.join(':')}`,
  ],
  describe({ scene, viaMknodat, mode, device, substitute }) {
    const name = viaMknodat ? 'mknodat' : 'mknod'
    return describeScene(
      scene,
      `${name} mode ${octal(mode)} device ${device.slice(0, 2).join(':')}${device[2] ? ' of blocks' : ''} (native: ${substitute})`,
    )
  },
}
