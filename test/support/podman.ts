// podman with a state of its own on a `Machine`.

import { join } from 'node:path'
import { type Done, execute } from './host.ts'
import type { Machine } from './machine.ts'

/** podman with a state of its own, that holds one image: the root file system of the machine, called "test". */
export class Podman {
  readonly #machine: Machine
  readonly #global: readonly string[]

  private constructor(machine: Machine, storage: readonly string[], folder: string) {
    this.#machine = machine
    const at = (name: string) => join(machine.directory, folder, name)
    this.#global = [
      ...['--root', at('store'), '--runroot', at('run'), '--tmpdir', at('libpod'), ...storage],
      ...['--runtime', 'crun', '--cgroup-manager', 'cgroupfs'],
    ]
  }

  /**
   * @param storage options that say which driver
   * @param folder for its state, if the machine has another podman
   */
  static async start(machine: Machine, storage = ['--storage-driver', 'vfs'], folder = ''): Promise<Podman> {
    const podman = new Podman(machine, storage, folder)
    const words = podman.#global.join(' ')
    const done = await machine.run('sh', '-c', `tar -C ${machine.rootfs} -c . | podman ${words} import -q - test`)
    if (done.status !== 0) throw new Error(`Cannot import the image: ${done.stderr}`)
    return podman
  }

  /** The words of a command, for a script. */
  command(...args: readonly string[]): readonly string[] {
    return ['podman', ...this.#global, ...args]
  }

  run(...args: readonly string[]): Promise<Done> {
    return this.#machine.run('podman', ...this.#global, ...args)
  }

  /** As `run`, for a command that leaves a container behind. */
  leave(...args: readonly string[]): Promise<number | null> {
    return this.#machine.leave('podman', ...this.#global, ...args)
  }

  /** Ends all containers and removes the state. */
  async close(): Promise<void> {
    await this.run('system', 'reset', '--force')
  }
}

/** Options that this machine needs: it lacks controllers that podman would limit by itself. */
export const USUAL = ['--rm', '--cgroups=disabled', '--network=none'] as const

/** Writes a profile of `intercede profile` and returns its path. */
export async function writeProfile(machine: Machine, name: string, options: readonly string[]): Promise<string> {
  const file = join(machine.directory, name)
  const args = [machine.program, 'profile', '--listener', machine.socket, '--output', file, ...options]
  const { status, stderr } = await execute(process.execPath, args)
  if (status !== 0) throw new Error(stderr)
  return file
}
