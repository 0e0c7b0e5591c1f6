import { spawnSync } from 'node:child_process'
import { closeSync, constants, mkdirSync, openSync } from 'node:fs'
import { basename, join } from 'node:path'
import { until } from '../support/host.ts'
import { must } from '../support/images.ts'
import { MARKED } from './mark.ts'
import { family, isContained, link, processes, read } from './processes.ts'

/** A runtime that is stopped inside before it has left the host's mounts keeps them for so long. */
const PATIENCE_S = 5
/** Where they are mounted. */
const NAMES = ['disk', 'memory'] as const

/** Nobody has it open for itself, so no mount of it is anywhere. */
function isFree(device: string): boolean {
  try {
    closeSync(openSync(device, constants.O_RDWR | constants.O_EXCL))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false
    throw error
  }
}

const has = (pid: string, text: string): boolean =>
  read(`/proc/${pid}/mountinfo`)
    .split('\n')
    .some((line) => line.includes(text))

/** What they run, for their numbers tell nothing. */
function programs(pids: readonly string[]): string {
  const names = pids.map((pid) => {
    const [program = '', ...args] = read(`/proc/${pid}/cmdline`).split('\0')
    const script = args.find((each) => each.endsWith('.js'))
    return basename(script ?? program)
  })
  return [...new Set(names)]
    .filter((name) => name !== '')
    .sort()
    .join(', ')
}

/**
 * A tmpfs and a disk that the host mounts, where mounts come and go for everybody who follows it, as systemd has it. When
 * the host unmounts them, nothing of ours may hold them.
 */
export class HostMounts implements Disposable {
  readonly #directory: string
  readonly #device: string

  /** @param device with a file system on it */
  constructor(directory: string, device: string) {
    this.#directory = directory
    this.#device = device
    for (const name of NAMES) mkdirSync(join(directory, name))
    try {
      must('mount', ['--bind', directory, directory])
      must('mount', ['--make-private', directory])
      must('mount', ['--make-shared', directory])
      this.#mount()
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  #mount(): void {
    must('mount', [this.#device, join(this.#directory, 'disk')])
    must('mount', ['-t', 'tmpfs', `${MARKED}memory`, join(this.#directory, 'memory')])
  }

  /**
   * Unmounts both, looks who has them still, and mounts them again.
   *
   * @param keeper the process that started the container
   */
  async cycle(keeper: number): Promise<string[]> {
    for (const name of NAMES) must('umount', [join(this.#directory, name)])
    const found = await this.#held(keeper)
    this.#mount()
    return found
  }

  async #held(keeper: number): Promise<string[]> {
    const isHeld = (): boolean => !isFree(this.#device) || this.#holders(keeper).length > 0
    const isGone = await until('both are free', () => !isHeld(), PATIENCE_S).then(
      () => true,
      () => false,
    )
    if (isGone) return []
    const holders = this.#holders(keeper)
    const all = processes().filter((pid) => this.#isHolder(pid))
    // Whoever else makes a mount namespace of its own on this machine has nothing to do with us.
    if (holders.length === 0 && all.length > 0) return []
    return [`mounts of the host stay busy: ${programs(holders) || 'nobody shows them'}`]
  }

  #isHolder(pid: string): boolean {
    return NAMES.some((name) => has(pid, ` ${join(this.#directory, name)} `))
  }

  /** Of ours. */
  #holders(keeper: number): string[] {
    return family(keeper).filter((pid) => !isContained(pid) && this.#isHolder(pid))
  }

  [Symbol.dispose](): void {
    for (const name of [...NAMES, '.'])
      spawnSync('umount', ['--lazy', join(this.#directory, name)], { stdio: 'ignore' })
  }
}

/**
 * Where mounts of a container are that has ended: of these devices, or of a file system with the mark of the attack.
 *
 * @param but a directory of the host in which it mounts itself
 * @param among whose mount namespaces are looked at
 */
export function mountsLeft(devices: readonly string[], but: string, among = processes()): string[] {
  const own = link('/proc/self/ns/mnt')
  const isLeft = (line: string): boolean => {
    const [place = '', what = ''] = line.split(' - ')
    const isOfContainer = what.includes(` ${MARKED}`) || devices.some((device) => what.includes(` ${device} `))
    return isOfContainer && !place.includes(` ${but}`)
  }
  const found = among.flatMap((pid) => {
    const who = link(`/proc/${pid}/ns/mnt`) === own ? 'the host' : programs([pid])
    const left = read(`/proc/${pid}/mountinfo`).split('\n').filter(isLeft)
    return left.map((line) => `${who} has ${line.split(' ').slice(3).join(' ')}`)
  })
  return [...new Set(found)]
}
