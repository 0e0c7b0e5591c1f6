import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import type { CallRecord } from '../../src/calls/record.ts'
import { fixture } from '../fixtures.ts'
import { BASE, Host, USERNS, until } from '../kernel/host.ts'
import { scene, weighted } from './generate.ts'
import { callerWords, pathArgument, walkOf } from './path.ts'
import { Places } from './places.ts'
import { capSets, mayMknod, overFiles, type Scene } from './scene.ts'
import { HUNG, type Outcome, Side } from './side.ts'
import { scriptOf } from './tree.ts'

export interface MknodCase {
  readonly scene: Scene
  /** The permissions, set-id and sticky bits; the type is always S_IFCHR. */
  readonly mode: number
  readonly device: readonly [major: number, minor: number]
  readonly viaMknodat: boolean
  /** What a native member of a container makes instead of the device. */
  readonly substitute: 'whiteout' | 'fifo'
}

export const mknodCase: fc.Arbitrary<MknodCase> = fc.record({
  scene,
  mode: fc.oneof({ weight: 1, arbitrary: fc.constant(0o666) }, { weight: 4, arbitrary: fc.nat(0o7777) }),
  device: weighted([12, [1, 3]], [2, [5, 0]], [2, [1, 9]], [1, [1, 1]]),
  viaMknodat: fc.boolean(),
  substitute: fc.constantFrom('whiteout', 'fifo'),
})

const NR_MKNOD = 133
const NR_MKNODAT = 259
const S_IFCHR = 0o020000
const S_IFIFO = 0o010000

type Sort = 'device' | 'whiteout' | 'fifo'

/** One case on all sides. */
export interface Trial {
  readonly case: MknodCase
  readonly ours: Outcome
  /**
   * `member`: a process of the same kind of user namespace, with the same ids, groups and capabilities there, makes what
   * needs no privilege in one: a whiteout (a character device 0:0) or a FIFO. Both go through the very code of a device
   * (fs/namei.c do_mknodat(): filename_create(), may_create(), vfs_prepare_mode(), then the file system's mknod), save
   * for the two checks that ask for the missing privilege: capable(CAP_MKNOD) and the device cgroup. So everything must
   * be equal but the number of the device, and for a FIFO its type. It cannot tell what a file system thinks of real
   * devices (none of those here differs), and an overlay refuses whiteouts, so there it is always a FIFO. A caller
   * without CAP_MKNOD makes the device itself: there the kernel alone answers on both sides.
   *
   * `host`: a process of the host with the host's numbers for all ids and no capability but CAP_MKNOD makes the very
   * device. That is exact where the caller's capabilities over files could not matter, so only where it has none.
   */
  readonly natives: { readonly member: Outcome; readonly host?: Outcome }
}

function sortFor({ scene: { fileSystem, caller }, substitute }: MknodCase): Sort {
  if (!mayMknod(caller)) return 'device'
  return fileSystem === 'overlay' ? 'fifo' : substitute
}

/** mknod(2) where it can say the same, else mknodat(2). */
function callOf(one: MknodCase, sort: Sort, places: Places, caps?: bigint): string {
  const { scene, mode, device, viaMknodat } = one
  const walk = walkOf(scene, places.seen(scene))
  const type = sort === 'fifo' ? S_IFIFO : S_IFCHR
  const [major, minor] = sort === 'device' ? device : [0, 0]
  const rest = [pathArgument(scene, walk.path), `i:${type | mode}`, `i:${(major << 8) | minor}`]
  const at = viaMknodat || walk.dirfd >= 0
  const args = at ? [`i:${walk.dirfd}`, ...rest] : rest
  const words = args.map((argument) => `a=${argument}`).join(' ')
  return `case ${callerWords(scene, walk, caps)} nr=${at ? NR_MKNODAT : NR_MKNOD} ${words}`
}

/** What was made, named alike on all sides: what is there from the start has other numbers and types, or was not made. */
function normal({ result, tree }: Outcome, sort: Sort, [major, minor]: MknodCase['device']): Outcome {
  if (result !== 'ok') return { result, tree }
  const [type, number] = sort === 'fifo' ? ['1', '0:0'] : ['2', sort === 'device' ? `${major}:${minor}` : '0:0']
  const made = new RegExp(`^(\\S+) ${type} (\\d+ \\d+ \\d+) ${number} `)
  return { result, tree: tree.map((line) => line.replace(made, '$1 made $2 - ')) }
}

/** Where the threads of a process that does not answer are: state, and the system call that they wait in. */
function threadsOf(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => {
    const read = (name: string): string => readFileSync(`/proc/${pid}/task/${tid}/${name}`, 'utf8').trim()
    return `thread ${tid} ${read('comm')}: ${/State:\t(\S)/.exec(read('status'))?.[1]} ${read('wchan')} ${read('syscall')}`
  })
}

/** All sides of the comparison, with an engine for the one of them. */
export class MknodSides {
  readonly #host: Host
  readonly #places = new Places()
  readonly #member: Side
  readonly #native: Side
  #ours: Side
  #calls = 0

  private constructor(host: Host) {
    this.#host = host
    this.#ours = this.#start('ours', [...this.#contained, '--await-agent', '--', fixture('batch-calls')])
    this.#member = this.#start('member', [...this.#contained, '--no-filter', '--', fixture('batch-calls')])
    this.#native = this.#start('host', [fixture('batch-calls'), `${BASE}`])
  }

  static async start(): Promise<MknodSides> {
    return new MknodSides(await Host.start())
  }

  /** @returns undefined if the caller cannot even take its place, which all sides must agree on */
  async run(one: MknodCase): Promise<Trial | undefined> {
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
    this.#calls++
    this.#host.drain()
    const natives = host ? { member, host } : { member }
    if (ours.result !== HUNG) return { case: one, ours, natives }
    const tree = threadsOf(this.#host.enginePid)
    await this.#startAgain()
    return { case: one, ours: { ...ours, tree }, natives }
  }

  /** What the engine noted about the last call. */
  async record(): Promise<CallRecord | undefined> {
    const noted = (): boolean => {
      this.#host.drain()
      return this.#host.records.length >= this.#calls
    }
    if (!noted()) await until('a record', noted, 2).catch(() => {})
    return this.#host.records[this.#calls - 1]
  }

  get #contained(): readonly string[] {
    return [fixture('filtered'), this.#host.socket, '--userns', USERNS, '--pidns']
  }

  #start(name: string, command: readonly string[]): Side {
    return new Side(name, this.#places, command)
  }

  async #startAgain(): Promise<void> {
    await this.#ours.close()
    this.#ours = this.#start(`ours-${this.#calls}`, [...this.#contained, '--await-agent', '--', fixture('batch-calls')])
    this.#calls = this.#host.records.length
  }

  async close(): Promise<void> {
    await Promise.all([this.#ours, this.#member, this.#native].map((side) => side.close()))
    this.#places.remove()
    this.#host.close()
  }
}
