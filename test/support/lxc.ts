// A container of LXC on a `Machine`.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Done, execute } from './host.ts'
import { BASE, CLI, type Machine } from './machine.ts'

const LOST = 'the listener was lost'
const ATTEMPTS = 10

/** Does at once what is asked in its FIFO, one command a line, so that a call needs no lxc-attach: that needs the daemon. */
const INIT = `busybox mkfifo /tmp/$1.ask
mknod /tmp/$1.device c 1 3
: >/tmp/$1.ready
while :; do
  # Whoever asked last may not have closed it yet.
  read -r command </tmp/$1.ask || continue
  eval "$command" >/tmp/$1.said 2>&1
  mv /tmp/$1.said /tmp/$1.answer
done
`

/** A container of LXC with a user namespace of its own, on the root of the machine's containers. */
export class Lxc {
  readonly name: string
  readonly #machine: Machine
  readonly #place: string

  private constructor(machine: Machine, name: string) {
    this.#machine = machine
    this.name = name
    this.#place = join(machine.directory, 'lxc')
  }

  /** @param keys the policy, as for `intercede profile` @param cookie instead of what that says */
  static async make(machine: Machine, name: string, keys: readonly string[], cookie?: string): Promise<Lxc> {
    const lxc = new Lxc(machine, name)
    mkdirSync(join(lxc.#place, name), { recursive: true })
    writeFileSync(join(machine.rootfs, 'init'), INIT)
    const policy = join(lxc.#place, name, 'seccomp')
    const set = keys.flatMap((key) => ['-c', key])
    const where = ['--listener', machine.lxcSocket, '--output', policy]
    const base = ['--base', '/usr/share/lxc/config/common.seccomp']
    const profile = await execute(process.execPath, [CLI, 'profile', '--format', 'lxc', ...set, ...base, ...where])
    if (profile.status !== 0) throw new Error(profile.stderr)
    const lines = profile.stdout.replace(/(cookie = ).*/, (line, key) => (cookie === undefined ? line : key + cookie))
    writeFileSync(
      join(lxc.#place, name, 'config'),
      `lxc.uts.name = ${name}
lxc.rootfs.path = dir:${machine.rootfs}
lxc.idmap = u 0 ${BASE} 65536
lxc.idmap = g 0 ${BASE} 65536
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.init.cmd = /bin/sh /init ${name}
lxc.mount.auto = proc:mixed
${lines}`,
    )
    return lxc
  }

  /** What LXC itself has logged of the container. */
  get log(): string {
    return readFileSync(join(this.#place, this.name, 'log'), 'utf8')
  }

  /** @returns the status of lxc-start, which is 0 also if LXC gives up once the container runs */
  start(): Promise<number | null> {
    const log = ['--logfile', join(this.#place, this.name, 'log'), '--logpriority', 'ERROR']
    return this.#machine.leave('lxc-start', ...this.#named, ...log)
  }

  /**
   * Runs a command in the running container. lxc-attach of LXC 6.0.4 loses the listener of some of the processes that it
   * starts (4 in 100 here), for two processes write to one of its sockets at once (attach.c): their trapped calls are ENOSYS,
   * and nobody hears of them. Such a one is started again.
   */
  async attach(options: readonly string[], ...command: readonly string[]): Promise<Done> {
    const script = `caller mknod / 060666 1 3 | busybox grep -q ENOSYS && echo ${LOST} || exec "$@"`
    const shell = ['sh', '-c', script, 'sh', ...command]
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const done = await this.#machine.run('lxc-attach', ...this.#named, '--clear-env', ...options, '--', ...shell)
      if (!done.stdout.startsWith(LOST)) return done
    }
    throw new Error(`lxc-attach lost its listener ${ATTEMPTS} times`)
  }

  /** Has the container's init do something. @returns what that said, and how long it took, in milliseconds */
  async ask(command: string): Promise<{ readonly said: string; readonly took: number }> {
    const tmp = join(this.#machine.rootfs, 'tmp', this.name)
    const start = performance.now()
    const script = `echo "$2" >$1.ask && until [ -e $1.answer ]; do sleep 0.005; done && cat $1.answer && rm $1.answer`
    const { stdout } = await execute('timeout', ['20', 'sh', '-c', script, 'sh', tmp, command])
    return { said: stdout, took: performance.now() - start }
  }

  /** Waits until LXC has started the container or given it up. @returns RUNNING or STOPPED */
  async settledState(): Promise<string> {
    const state = async (): Promise<string> =>
      (await this.#machine.run('lxc-info', ...this.#named, '--state', '--no-humanize')).stdout.trim()
    let [last, now] = ['', await state()]
    while (now !== last || !/^(RUNNING|STOPPED)$/.test(now)) {
      await new Promise((resolve) => setTimeout(resolve, 200))
      ;[last, now] = [now, await state()]
    }
    return now
  }

  /** Ends it, and what LXC leaves behind. */
  async stop(): Promise<void> {
    await this.#machine.run('lxc-stop', ...this.#named, '--kill')
    await this.#machine.run('lxc-wait', ...this.#named, '--state', 'STOPPED', '--timeout', '10')
    for (const end of ['ask', 'ready', 'device'])
      rmSync(join(this.#machine.rootfs, `tmp/${this.name}.${end}`), { force: true })
    rmSync(join('/run/lxc/lock', this.#machine.directory), { recursive: true, force: true })
    await this.#machine.run('rmdir', '/sys/fs/cgroup/lxc.pivot', `/sys/fs/cgroup/lxc.monitor.${this.name}`)
  }

  get #named(): readonly string[] {
    return ['--lxcpath', this.#place, '--name', this.name]
  }
}
