// A containerd with a state of its own on a `Machine`: for tests of what ctr and Kubernetes do.

import type { ChildProcess } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Done, execute, until } from './host.ts'
import { makeImage } from './image.ts'
import type { Machine } from './machine.ts'

/** Everything lies in the machine's directory; of the snapshotters there is only the one that needs nothing. */
const configuration = (folder: string): string => `version = 2
root = "${folder}/containerd"
state = "${folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", ${[
  'aufs',
  'blockfile',
  'btrfs',
  'devmapper',
  'overlayfs',
  'zfs',
]
  .map((name) => `"io.containerd.snapshotter.v1.${name}"`)
  .join(', ')}]
[grpc]
address = "${folder}/containerd.sock"
[ttrpc]
address = "${folder}/containerd.sock.ttrpc"
`

const IMAGE = 'localhost/test:latest'
/** ctr drops what it has not copied yet when the container ends: it cancels the copying before it waits for it. */
const COPIED = '"$@"; status=$?; sleep 0.5; exit $status'

/** containerd with a state of its own, that holds one image: the root file system of the machine. */
export class Containerd {
  readonly #machine: Machine
  readonly #process: ChildProcess

  private constructor(machine: Machine) {
    this.#machine = machine
    const file = join(machine.directory, 'containerd.toml')
    writeFileSync(file, configuration(machine.directory))
    // Its shims have their sockets below /run, wherever its state is.
    const script = `mount -t tmpfs none /run && exec containerd --config ${file}`
    this.#process = machine.start('sh', '-c', script)
  }

  static async start(machine: Machine): Promise<Containerd> {
    const containerd = new Containerd(machine)
    let answers = false
    const ask = async (): Promise<void> => {
      while (!answers) answers = (await containerd.ctr('version')).status === 0
    }
    void ask()
    await until('containerd answers', () => answers, 20)
    const archive = makeImage(machine.directory, IMAGE, [machine.rootfs])
    const { status, stderr } = await containerd.ctr('images', 'import', '--snapshotter', 'native', archive)
    if (status !== 0) throw new Error(`Cannot import the image: ${stderr}`)
    return containerd
  }

  /** What executes a program where /run is containerd's, with the records of runc. */
  get within(): readonly string[] {
    return ['nsenter', `--mount=/proc/${this.#process.pid}/ns/mnt`, '--']
  }

  ctr(...args: readonly string[]): Promise<Done> {
    return execute('ctr', ['--address', join(this.#machine.directory, 'containerd.sock'), ...args])
  }

  /** `ctr run`; this machine lacks the controller for shares of a processor, which ctr sets unless told otherwise. */
  run(options: readonly string[], id: string, ...command: readonly string[]): Promise<Done> {
    const usual = ['--snapshotter', 'native', '--cpu-shares', '0', '--fifo-dir', join(this.#machine.directory, 'fifo')]
    return this.ctr('run', ...usual, ...options, IMAGE, id, 'sh', '-c', COPIED, 'sh', ...command)
  }

  exec(id: string, ...command: readonly string[]): Promise<Done> {
    const fifos = ['--fifo-dir', join(this.#machine.directory, 'fifo')]
    return this.ctr('task', 'exec', ...fifos, '--exec-id', `exec-${Date.now()}`, id, ...command)
  }

  async remove(id: string): Promise<void> {
    await this.ctr('task', 'delete', '--force', id)
    await this.ctr('container', 'delete', id)
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.kill()
    await ended
  }
}
