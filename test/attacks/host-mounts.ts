import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, constants, mkdirSync, openSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Done, execute } from '../support/host.ts'

export type Propagation = 'private' | 'shared'

/** A mount namespace that stands for that of a host, with a disk that its administrator has mounted. */
export class HostMounts implements AsyncDisposable {
  readonly disk: string
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess, disk: string) {
    this.#holder = holder
    this.disk = disk
  }

  /** @param directory in which the mount point of the disk is made */
  static async open(propagation: Propagation, directory: string, device: string): Promise<HostMounts> {
    const disk = join(directory, 'disk')
    mkdirSync(disk, { recursive: true })
    const script = `mount --make-r${propagation} / && mount "$1" "$2" && echo up && read -r _`
    const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', device, disk]
    const holder = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'] })
    await new Promise((resolve, reject) => {
      holder.stdout.once('data', resolve)
      holder.once('exit', reject)
    })
    return new HostMounts(holder, disk)
  }

  /** Words before a command that shall run there. */
  get within(): readonly string[] {
    return ['nsenter', `--mount=/proc/${this.#holder.pid}/ns/mnt`, '--']
  }

  run(program: string, args: readonly string[]): Promise<Done> {
    const [first = '', ...rest] = [...this.within, program, ...args]
    return execute(first, rest)
  }

  /** What is mounted there but for the disk, without the numbers of the mounts; in /tmp other tests mount and remove. */
  get table(): readonly string[] {
    const lines = readFileSync(`/proc/${this.#holder.pid}/mountinfo`, 'latin1').split('\n')
    return lines.map((line) => line.split(' ').slice(2).join(' ')).filter((line) => !line.includes(` ${tmpdir()}/`))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#holder.once('exit', resolve))
    this.#holder.stdin!.end()
    await ended
  }
}

/** Does anybody still have the file system of a block device mounted? To open it exclusively the kernel says EBUSY then. */
export function isBusy(device: string): boolean {
  try {
    closeSync(openSync(device, constants.O_RDONLY | constants.O_EXCL))
    return false
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return true
    throw error
  }
}
