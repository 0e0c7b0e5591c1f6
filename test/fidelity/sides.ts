// Runs a script as root of the host, in a container without keys, in the same container with all keys, with all keys in
// observe mode, and in one of podman.

import { chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fixture } from '../support/fixtures.ts'
import { execute } from '../support/host.ts'
import { Images, type ImageType } from '../support/images.ts'
import { INTERCEDE } from '../support/run-machine.ts'
import { runInPodman } from './podman-side.ts'

export type SideName = 'native' | 'without' | 'observed' | 'ours' | 'podman'

const TYPES: readonly ImageType[] = ['ext4', 'ext2', 'xfs', 'btrfs', 'squashfs', 'erofs']
/** All that can be given, but for what takes something away again. */
const KEYS: readonly string[] = [
  ...['mknod', 'mknod.devices=c:5:2,c:10:200,c:10:229', 'bpf', 'bpf.devices', 'mount'],
  ...[`mount.allowed=${TYPES.join(',')},tmpfs,hugetlbfs`, 'mount.shift', 'sched_setscheduler'],
  ...[
    'sched_setscheduler.max_priority=99',
    'sched_setscheduler.min_nice=-20',
    'sched_setscheduler.ioprio',
    'setxattr',
    'setxattr.read',
    'sysinfo',
  ],
]
/** An id that no container of `run` has. */
const FOREIGN = 100_000

/** The programs and images that cases use, in a directory that containers see with the owners that it has. */
export class Sides implements Disposable {
  readonly #closed = mkdtempSync(join(tmpdir(), 'intercede-fidelity-'))
  readonly #directory = join(this.#closed, 'tree')
  readonly #images = new Images()
  readonly #env: Readonly<Record<string, string>>
  readonly #devices: readonly string[]

  constructor() {
    mkdirSync(this.#directory)
    const program = (name: string): string => {
      copyFileSync(fixture(name), join(this.#directory, name))
      return join(this.#directory, name)
    }
    const devices = TYPES.map((type) => [type.toUpperCase(), this.#images.device(type)] as const)
    this.#devices = devices.map(([, device]) => device)
    this.#env = { CALLS: program('call-steps'), SYSINFO: program('sysinfo'), ...Object.fromEntries(devices) }
  }

  /** @returns what it printed @throws {Error} if it, or its container, failed */
  async run(side: SideName, script: string): Promise<string> {
    const place = join(this.#directory, side)
    mkdirSync(join(place, 'foreign'), { recursive: true })
    chownSync(join(place, 'foreign'), FOREIGN, FOREIGN)
    writeFileSync(join(place, 'script'), script)
    const command = ['sh', '-c', `cd ${place} && umask 022 && exec sh script`]
    if (side === 'podman')
      return runInPodman({ keys: KEYS, devices: this.#devices, env: this.#env, directory: this.#directory }, command)
    const { status, stdout, stderr } =
      side === 'native' ? await this.#native(command) : await this.#contained(command, side)
    if (status !== 0) throw new Error(`Cannot run the cases (${side}): ${stderr}`)
    return stdout
  }

  #native([program = '', ...args]: readonly string[]) {
    return execute('unshare', ['--mount', program, ...args], { env: { ...process.env, ...this.#env } })
  }

  #contained(command: readonly string[], side: 'without' | 'observed' | 'ours') {
    const keys = { without: [], observed: [...KEYS, 'mode=observe'], ours: KEYS }[side]
    return execute(process.execPath, [
      ...[INTERCEDE, 'run', '--quiet', '--memory', '512m', '--bind', `${this.#directory}:idmap`],
      ...keys.flatMap((key) => ['-c', key]),
      ...this.#devices.flatMap((device) => ['--device', device]),
      ...Object.entries(this.#env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      ...['--', ...command],
    ])
  }

  [Symbol.dispose](): void {
    this.#images[Symbol.dispose]()
    rmSync(this.#closed, { recursive: true, force: true })
  }
}
