// A containerd with its CRI plugin and NRI on a `Machine`, and what a kubelet asks of it: for tests of what Pods get.

import { type ChildProcess, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { join } from 'node:path'
import { missing } from './fixtures.ts'
import { type Done, execute, until } from './host.ts'
import { makeImage } from './image.ts'
import { BASE, type Machine } from './machine.ts'
import { field, fieldsOf, mapField, numberField, partOf } from './nri-runtime.ts'

/** Where a newer containerd and its shim are, if they are not in PATH. */
const { PATH = '', INTERCEDE_CONTAINERD = '' } = process.env
const pathOf = (folder: string): string => (folder === '' ? PATH : `${folder}:${PATH}`)

/** A containerd that is installed here, and its version, such as 203 for 2.3. */
interface Installed {
  readonly folder: string
  readonly version: number
}
function installed(folder: string): Installed | undefined {
  if (folder === '' && missing('containerd')) return undefined
  const said = execFileSync('containerd', ['--version'], { env: { PATH: pathOf(folder) }, encoding: 'utf8' })
  const [, major, minor] = / v?(\d+)\.(\d+)\.\d/.exec(said) ?? []
  return { folder, version: 100 * Number(major) + Number(minor) }
}
const found = [INTERCEDE_CONTAINERD, ''].flatMap((folder) => installed(folder) ?? [])
/** The first one reports policies to NRI, the second one does not. */
export const reporting = found.find(({ version }) => version >= 203)
export const older = found.find(({ version }) => version < 203)
const lacks = missing('crun', 'busybox')
/** Why tests with one of them cannot run. */
export const noReporting =
  lacks ?? (reporting ? undefined : 'containerd 2.3 or later is neither in PATH nor in INTERCEDE_CONTAINERD')
export const noOlder = lacks ?? (older ? undefined : 'not installed: containerd before 2.3')

const IMAGE = 'localhost/test:latest'
const PAUSE = 'localhost/pause:latest'

/**
 * Everything lies in the machine's directory. This machine has no controllers, and Pods need no network.
 *
 * @param isOld whether it is a configuration for containerd 1
 */
function configuration(folder: string, isOld: boolean): string {
  const cri = isOld ? 'io.containerd.grpc.v1.cri' : 'io.containerd.cri.v1.runtime'
  const sandbox = isOld
    ? `[plugins.'${cri}']
sandbox_image = "${PAUSE}"`
    : `[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "${PAUSE}"
[plugins.'${cri}']`
  return `version = ${isOld ? 2 : 3}
root = "${folder}/containerd"
state = "${folder}/containerd-state"
[grpc]
address = "${folder}/containerd.sock"
${sandbox}
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.'${cri}'.cni]
bin_dir${isOld ? ` = "${folder}/cni"` : `s = ["${folder}/cni"]`}
conf_dir = "${folder}/cni/conf"
[plugins.'${cri}'.containerd]
default_runtime_name = "crun"
[plugins.'${cri}'.containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
[plugins.'${cri}'.containerd.runtimes.crun.options]
BinaryName = "${folder}/crun"
[plugins.'io.containerd.nri.v1.nri']
disable = false
disable_connections = false
socket_path = "${folder}/nri.sock"
plugin_path = "${folder}/no-plugins"
${isOld ? '' : `[plugins.'io.containerd.nri.v1.nri'.default_validator]\nenable = true\n`}`
}

/** crun without shares of a processor, which containerd always sets: this machine lacks the controller. */
const CRUN = `#!/bin/sh
for word; do
  [ "$last" != --bundle ] || sed -i 's/"shares":[0-9]*//' "$word/config.json"
  last=$word
done
exec crun "$@"
`
/** Says that a Pod has an address, and gives it none. */
const NETWORK = `#!/bin/sh
[ "$CNI_COMMAND" != VERSION ] || { echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'; exit; }
echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"version":"4","address":"10.0.0.2/24","interface":0}]}'
`
const NETWORKS =
  '{"cniVersion":"0.4.0","name":"none","plugins":[{"type":"none","capabilities":{"portMappings":false}}]}'

/** The network of a Pod is its own; its user namespace too, unless it is the host's. */
const namespaces = (hostUsers: boolean): Buffer => {
  const ids = (number: number) => field(number, numberField(1, BASE), numberField(3, 65_536))
  return hostUsers ? Buffer.alloc(0) : field(5, ids(2), ids(3))
}

export interface Creating {
  readonly namespace: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly hostUsers?: boolean
}
interface Filter {
  readonly defaultAction: string
  readonly architectures: readonly string[]
  readonly syscalls: readonly { readonly names: readonly string[] }[]
}
interface Pod {
  readonly id: string
  readonly config: Buffer
  readonly hostUsers: boolean
}

/** SecurityProfile of CRI, with the numbers that NRI has too. */
export const SECCOMP = { runtimeDefault: 0, unconfined: 1 } as const

export class CriContainerd {
  readonly #machine: Machine
  /** PATH, with the directory of this containerd. */
  readonly #programs: string
  readonly #process: ChildProcess
  #session: ClientHttp2Session | undefined
  #serial = 0

  private constructor(machine: Machine, { folder: programs, version }: Installed) {
    this.#machine = machine
    this.#programs = pathOf(programs)
    const folder = machine.directory
    writeFileSync(this.#file, configuration(folder, version < 200))
    writeFileSync(join(folder, 'crun'), CRUN, { mode: 0o755 })
    mkdirSync(join(folder, 'cni/conf'), { recursive: true })
    for (const name of ['loopback', 'none']) writeFileSync(join(folder, 'cni', name), NETWORK, { mode: 0o755 })
    writeFileSync(join(folder, 'cni/conf/10-none.conflist'), NETWORKS)
    // Its shims have their sockets below /run. It is started again when it ends, with the same /run.
    const script = `mount -t tmpfs none /run; PATH='${this.#programs}'; while [ ! -e ended ]; do containerd --config ${this.#file}; done`
    this.#process = machine.start('sh', '-c', script)
  }

  get #file(): string {
    return join(this.#machine.directory, 'containerd.toml')
  }

  static async start(machine: Machine, installed: Installed): Promise<CriContainerd> {
    const containerd = new CriContainerd(machine, installed)
    await containerd.#answers()
    for (const [name, command] of [
      [IMAGE, ['sh']],
      [PAUSE, ['sleep', '100000']],
    ] as const) {
      const folder = join(machine.directory, `image-${command[0]}`)
      mkdirSync(folder)
      const archive = makeImage(folder, name, [machine.rootfs], command)
      const { status, stderr } = await containerd.#ctr('images', 'import', '--snapshotter', 'overlayfs', archive)
      if (status !== 0) throw new Error(`Cannot import the image: ${stderr}`)
    }
    return containerd
  }

  get #path(): string {
    return join(this.#machine.directory, 'containerd.sock')
  }

  #ctr(...args: readonly string[]): Promise<Done> {
    return execute('ctr', ['--address', this.#path, '--namespace', 'k8s.io', ...args], {
      env: { PATH: this.#programs },
    })
  }

  async #answers(): Promise<void> {
    let answers = false
    const ask = async (): Promise<void> => {
      while (!answers) {
        answers = await this.#call('Version').then(
          () => true,
          () => false,
        )
        if (!answers) await new Promise((done) => setTimeout(done, 100))
      }
    }
    void ask()
    await until('containerd answers', () => answers, 30)
  }

  #connected(): ClientHttp2Session {
    if (this.#session) return this.#session
    const session = connectHttp2('http://cri', { createConnection: () => connect(this.#path) })
    session.on('error', () => {})
    session.once('close', () => {
      if (this.#session === session) this.#session = undefined
    })
    this.#session = session
    return session
  }

  /** A unary call of gRPC: a byte that says "not compressed", a length, a message. @throws {Error} with its status */
  #call(method: string, body: Buffer = Buffer.alloc(0)): Promise<Buffer> {
    const session = this.#connected()
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': `/runtime.v1.RuntimeService/${method}`,
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      const chunks: Buffer[] = []
      let status: unknown = 'no status'
      let said: unknown = ''
      const look = (headers: Readonly<Record<string, unknown>>): void => {
        if (headers['grpc-status'] === undefined) return
        status = headers['grpc-status']
        said = decodeURIComponent(String(headers['grpc-message'] ?? ''))
      }
      stream.on('response', look).on('trailers', look)
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('error', reject)
      stream.on('close', () => {
        if (status === '0') resolve(Buffer.concat(chunks).subarray(5))
        else reject(new Error(`${method}: ${status} ${said}`))
      })
      const head = Buffer.alloc(5)
      head.writeUInt32BE(body.length, 1)
      stream.end(Buffer.concat([head, body]))
    })
  }

  async pod({ namespace, annotations = {}, hostUsers = false }: Creating): Promise<Pod> {
    const name = `pod-${this.#serial++}`
    const metadata = field(1, field(1, name), field(2, `${name}-uid`), field(3, namespace))
    const linux = field(8, field(2, field(1, namespaces(hostUsers)), field(9)))
    const config = Buffer.concat([metadata, mapField(7, annotations), linux])
    const id = String(partOf(await this.#call('RunPodSandbox', field(1, config)), 1))
    return { id, config, hostUsers }
  }

  /** Creates a container and starts it. @throws {Error} with what the kubelet would tell */
  async container({ id, config, hostUsers }: Pod, profile: number, name = 'web'): Promise<string> {
    const type = profile === 0 ? [] : [numberField(1, profile)]
    const caps = field(1, field(1, 'MKNOD'))
    const security = field(2, caps, field(3, namespaces(hostUsers)), field(15, ...type))
    const command = ['sleep', '100000'].map((word) => field(3, word))
    const container = field(2, field(1, field(1, name)), field(2, field(1, IMAGE)), ...command, field(15, security))
    const made = await this.#call('CreateContainer', Buffer.concat([field(1, id), container, field(3, config)]))
    const own = String(partOf(made, 1))
    await this.#call('StartContainer', field(1, own))
    return own
  }

  async exec(container: string, ...command: readonly string[]): Promise<Done> {
    const words = command.map((word) => field(2, word))
    const answer = await this.#call('ExecSync', Buffer.concat([field(1, container), ...words, numberField(3, 20)]))
    const status = Number(fieldsOf(answer).find(([number]) => number === 3)?.[1] ?? 0)
    return { stdout: String(partOf(answer, 1)), stderr: String(partOf(answer, 2)), status }
  }

  /** The filter of a container, as the OCI runtime got it. */
  filter(container: string): Filter | undefined {
    const folder = join(this.#machine.directory, 'containerd-state/io.containerd.runtime.v2.task/k8s.io', container)
    return JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).linux.seccomp
  }

  async remove({ id }: Pod): Promise<void> {
    await this.#call('StopPodSandbox', field(1, id))
    await this.#call('RemovePodSandbox', field(1, id))
  }

  /** Ends containerd, which starts again. Containers run on. */
  async restart(): Promise<void> {
    this.#session?.destroy()
    this.#session = undefined
    end(this.#file)
    await this.#answers()
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#session?.destroy()
    writeFileSync(join(this.#machine.directory, 'ended'), '')
    end(this.#file)
    await ended
    // A shim whose Pod was not removed outlives containerd, and the cgroup above those of the Pods is crun's.
    end(this.#path)
    await this.#machine.run('sh', '-c', 'rmdir /sys/fs/cgroup/k8s.io 2>/dev/null || :')
  }
}

/** Ends the processes that have a word among their arguments. */
function end(word: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (argumentsOf(pid).includes(word)) process.kill(Number(pid), 'SIGTERM')
  }
}

function argumentsOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
  } catch {
    return []
  }
}
