// A containerd with its CRI plugin and NRI on a `Machine`, and what a kubelet asks of it: for tests of what Pods get.

import { type ChildProcess, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { join } from 'node:path'
import { newerRuntimes, whyNoDebianRoot } from './debian-root.ts'
import { missing } from './fixtures.ts'
import { type Done, execute, until } from './host.ts'
import { makeImage } from './image.ts'
import { BASE, type Machine } from './machine.ts'
import { field, fieldsOf, mapField, numberField, partOf } from './nri-runtime.ts'

const { PATH = '', INTERCEDE_CONTAINERD = '' } = process.env

/** A containerd, with the OCI runtimes beside it. */
interface Installed {
  readonly name: string
  /** Why it cannot be tested. */
  readonly why: string | undefined
  /** What executes it, and whatever sees the same programs. */
  readonly within: readonly [string, ...string[]]
  readonly path: string
  /** Such as 203 for 2.3; 0 if it cannot be tested. */
  readonly version: number
}

/**
 * @param why it cannot be tested
 * @param folder where its programs are, if they are not in PATH
 * @param root makes a system whose /usr is to be this one's
 */
function installed(name: string, why: string | undefined, folder = '', root?: () => string): Installed {
  const path = folder === '' ? PATH : `${folder}:${PATH}`
  const absent: Installed = { name, why, within: ['env'], path, version: 0 }
  if (why !== undefined) return absent
  try {
    const script = 'mount --bind "$0/usr" /usr && exec "$@"'
    const within: Installed['within'] = root ? ['unshare', '--mount', 'sh', '-c', script, root()] : ['env']
    const [program, ...words] = within
    const said = execFileSync(program, [...words, 'containerd', '--version'], { env: { PATH: path }, encoding: 'utf8' })
    const [number = '', major, minor] = /(\d+)\.(\d+)\.\d+/.exec(said) ?? []
    return { ...absent, name: `${name} ${number}`, within, version: 100 * Number(major) + Number(minor) }
  } catch (error) {
    return { ...absent, why: `there is none: ${String((error as Error).message).split('\n')[0]}` }
  }
}

const lacks = missing('crun', 'runc', 'busybox')
const noNewer = lacks ?? (await whyNoDebianRoot())
const named = INTERCEDE_CONTAINERD === '' ? 'INTERCEDE_CONTAINERD names none' : lacks
/** The newest first. */
export const containerds = [
  // It may accept only newer OCI runtimes than this system's.
  installed('containerd', named, INTERCEDE_CONTAINERD, noNewer === undefined ? newerRuntimes : undefined),
  // On some days that suite has packages that cannot be installed.
  installed("unstable's containerd", noNewer, '', newerRuntimes),
  installed('containerd', lacks ?? missing('containerd')),
]
/** The first one that reports policies to NRI, why there is none, and those that do not report any. */
export const reporting = containerds.find(({ version }) => version >= 203)
export const noReporting = reporting ? undefined : 'no containerd is 2.3 or later'
export const older = containerds.filter(({ version }) => version < 203)

/** The OCI runtimes, as a RuntimeClass names them. */
export const HANDLERS = ['crun', 'runc'] as const
type Handler = (typeof HANDLERS)[number]

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
${HANDLERS.map(
  (name) => `[plugins.'${cri}'.containerd.runtimes.${name}]
runtime_type = "io.containerd.runc.v2"
[plugins.'${cri}'.containerd.runtimes.${name}.options]
BinaryName = "${folder}/${name}"
`,
).join('')}[plugins.'io.containerd.nri.v1.nri']
disable = false
disable_connections = false
socket_path = "${folder}/nri.sock"
plugin_path = "${folder}/no-plugins"
${isOld ? '' : `[plugins.'io.containerd.nri.v1.nri'.default_validator]\nenable = true\n`}`
}

/** An OCI runtime without shares of a processor, which containerd always sets: this machine lacks the controller. */
const wrapper = (name: string): string => `#!/bin/sh
for word; do
  [ "$last" != --bundle ] || sed -i 's/"shares":[0-9]*//' "$word/config.json"
  last=$word
done
exec ${name} "$@"
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
  readonly handler?: Handler
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

/** SecurityProfile of CRI, with the numbers that NRI has too, or the file of a Localhost profile. */
export const SECCOMP = { runtimeDefault: 0, unconfined: 1 } as const
type Profile = (typeof SECCOMP)[keyof typeof SECCOMP] | { readonly file: string }
const LOCALHOST = 2
const securityProfile = (profile: Profile): Buffer =>
  typeof profile === 'number'
    ? numberField(1, profile)
    : Buffer.concat([numberField(1, LOCALHOST), field(2, profile.file)])

export class CriContainerd {
  readonly #machine: Machine
  readonly #path: string
  readonly #process: ChildProcess
  #session: ClientHttp2Session | undefined
  #serial = 0

  private constructor(machine: Machine, { within, path, version }: Installed) {
    this.#machine = machine
    this.#path = path
    const folder = machine.directory
    writeFileSync(this.#file, configuration(folder, version < 200))
    for (const name of HANDLERS) writeFileSync(join(folder, name), wrapper(name), { mode: 0o755 })
    mkdirSync(join(folder, 'cni/conf'), { recursive: true })
    for (const name of ['loopback', 'none']) writeFileSync(join(folder, 'cni', name), NETWORK, { mode: 0o755 })
    writeFileSync(join(folder, 'cni/conf/10-none.conflist'), NETWORKS)
    // Its shims have their sockets below /run. It is started again when it ends, with the same /run.
    const script = `mount -t tmpfs none /run; PATH='${path}'; while [ ! -e ended ]; do containerd --config ${this.#file}; done`
    this.#process = machine.start(...within, 'sh', '-c', script)
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

  get #socket(): string {
    return join(this.#machine.directory, 'containerd.sock')
  }

  #ctr(...args: readonly string[]): Promise<Done> {
    const words = ['ctr', '--address', this.#socket, '--namespace', 'k8s.io', ...args]
    return execute('nsenter', [`--mount=/proc/${this.#process.pid}/ns/mnt`, '--', ...words], {
      env: { PATH: this.#path },
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
    const session = connectHttp2('http://cri', { createConnection: () => connect(this.#socket) })
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

  async pod({ namespace, annotations = {}, hostUsers = false, handler = 'crun' }: Creating): Promise<Pod> {
    const name = `pod-${this.#serial++}`
    const metadata = field(1, field(1, name), field(2, `${name}-uid`), field(3, namespace))
    const linux = field(8, field(2, field(1, namespaces(hostUsers)), field(9)))
    const config = Buffer.concat([metadata, mapField(7, annotations), linux])
    const id = String(
      partOf(await this.#call('RunPodSandbox', Buffer.concat([field(1, config), field(2, handler)])), 1),
    )
    return { id, config, hostUsers }
  }

  /** Creates a container and starts it. @throws {Error} with what the kubelet would tell */
  async container({ id, config, hostUsers }: Pod, profile: Profile, name = 'web'): Promise<string> {
    const caps = field(1, field(1, 'MKNOD'))
    const security = field(2, caps, field(3, namespaces(hostUsers)), field(15, securityProfile(profile)))
    const command = ['sleep', '100000'].map((word) => field(3, word))
    const container = field(2, field(1, field(1, name)), field(2, field(1, IMAGE)), ...command, field(15, security))
    const made = await this.#call('CreateContainer', Buffer.concat([field(1, id), container, field(3, config)]))
    const own = String(partOf(made, 1))
    await this.#call('StartContainer', field(1, own))
    return own
  }

  /** Creates a container in a Pod of its own, and shows what becomes of it. */
  async within<T>(creating: Creating, profile: Profile, show: (container: string) => T | Promise<T>): Promise<T> {
    const pod = await this.pod(creating)
    try {
      return await show(await this.container(pod, profile))
    } finally {
      await this.remove(pod)
    }
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
    const ended = end(this.#file)
    // It answers while it ends, and leaves its socket behind.
    await until('containerd has ended', () => ended.every((pid) => !argumentsOf(pid).includes(this.#file)), 30)
    await this.#answers()
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#session?.destroy()
    writeFileSync(join(this.#machine.directory, 'ended'), '')
    end(this.#file)
    await ended
    // A shim whose Pod was not removed outlives containerd, and the cgroup above those of the Pods is crun's.
    end(this.#socket)
    await this.#machine.run('sh', '-c', 'rmdir /sys/fs/cgroup/k8s.io 2>/dev/null || :')
  }
}

/** Ends the processes that have a word among their arguments. @returns their pids */
function end(word: string): readonly string[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && argumentsOf(name).includes(word))
  for (const pid of pids) process.kill(Number(pid), 'SIGTERM')
  return pids
}

function argumentsOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
  } catch {
    return []
  }
}
