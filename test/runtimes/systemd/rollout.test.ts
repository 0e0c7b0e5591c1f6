// The DaemonSet on a node whose init is systemd: its own commands, in namespaces like those of its Pod.

import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { commandOf, firstCommand, KUBERNETES } from '../../support/daemonset.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { type Done, execute, USERNS, until } from '../../support/host.ts'
import { Load, metadata, sleep } from '../../support/restart-world.ts'
import { ServiceHost } from '../../support/service-host.ts'
import { withReason } from '../../support/skipped.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const TOP = '/opt/intercede'
/** Where containers of the security-profiles-operator find the daemon. */
const OPERATOR = '/run/security-profiles-operator/intercede.sock'
/** More on demand. */
const CONTAINERS = Number(process.env.INTERCEDE_CONTAINERS ?? 40)

/** Makes an image's /opt/intercede, as the archive has it. @param more makes it another build */
async function image(directory: string, more: string): Promise<string> {
  const top = join(directory, `image${more}`)
  for (const folder of ['bin', 'lib', 'node/bin']) mkdirSync(join(top, folder), { recursive: true })
  const staged = join(top, 'lib/intercede')
  expect(await execute('node', ['scripts/stage.js', staged, process.arch], { cwd: ROOT })).toMatchObject({ status: 0 })
  cpSync(process.execPath, join(top, 'node/bin/node'))
  const launcher = `#!/bin/sh\nexec ${TOP}/node/bin/node ${TOP}/lib/intercede/bin/intercede.js "$@"\n`
  writeFileSync(join(top, 'bin/intercede'), launcher, { mode: 0o755 })
  const dist = join(staged, 'dist')
  writeFileSync(join(dist, 'more.js'), more)
  // As build-id.ts does.
  const hash = createHash('sha256')
  const files = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
  for (const name of files.sort()) hash.update(name).update(readFileSync(join(dist, name)))
  writeFileSync(join(dist, 'build-id'), `${hash.digest('hex').slice(0, 16)}\n`)
  return top
}

/** The file system of a Pod: /opt/intercede of its image, and the node's below /host. */
const POD = `set -e
mkdir -p "$0/host"
mount --rbind / "$0/host"
mount -t tmpfs none /opt
mkdir ${TOP}
mount --bind "$1" ${TOP}
shift
exec "$@"`

/** A Pod of the DaemonSet, by the commands of its containers. */
class Pod {
  readonly #host: ServiceHost
  #child: ChildProcess | undefined

  constructor(host: ServiceHost) {
    this.#host = host
  }

  /** Runs the command of an initContainer. */
  prepare(image: string, command: readonly string[]): Promise<Done> {
    const { directory } = this.#host
    const within = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', POD, directory, image]
    return this.#host.run(...within, ...command.map((word) => (word === '/host' ? join(directory, 'host') : word)))
  }

  async start(image: string): Promise<void> {
    for (const name of ['admit', 'program']) {
      const done = await this.prepare(image, commandOf(name))
      expect(done, done.stderr).toMatchObject({ status: 0 })
    }
    const [program, ...words] = [...this.#host.within, 'sh', '-c', 'echo $$ >"$0" && exec "$@"', this.#pid]
    this.#child = spawn(program!, [...words, ...commandOf('daemon')], { stdio: ['pipe', 'pipe', 'inherit'] })
    await until('it is ready', async () => (await this.ready()).status === 0, 60)
  }

  ready(): Promise<Done> {
    return this.#host.run(`${TOP}/bin/intercede`, 'status', '--format', '{version}')
  }

  /** As the kubelet ends it. */
  async end(): Promise<void> {
    const child = this.#child!
    await this.#host.run('kill', '-TERM', readFileSync(this.#pid, 'latin1').trim())
    await until('it has ended', () => child.exitCode !== null || child.signalCode !== null, 10)
    expect(child.exitCode).toBe(0)
  }

  get #pid(): string {
    return join(this.#host.directory, 'pod.pid')
  }
}

interface Running {
  readonly id: string
  readonly pid: string
}

/** Starts containers, and processes in one that runs, one after the other, until it is told to end. */
async function starts(host: ServiceHost, { id, pid }: Running, isOver: () => boolean): Promise<readonly string[]> {
  const failed: string[] = []
  for (let count = 0; !isOver(); count++) {
    const which = count % 2 === 0 ? ['--id', `new-${count}`] : ['--id', id, '--status', 'running']
    const space = count % 2 === 0 ? ['--userns', USERNS, '--pidns'] : ['--join', pid, '--uid', '0', '--gid', '0']
    const container = [...space, '--await-agent', '--metadata', metadata, ...which]
    const make = ['mknod', join(host.directory, 'open', `${count}`), 'c', '1', '3']
    const socket = count % 4 === 0 ? OPERATOR : host.socket
    const { status, stderr } = await host.run(fixture('filtered'), socket, ...container, '--', ...make)
    if (status !== 0) failed.push(`${which.join(' ')}: ${stderr}`)
    await sleep(50)
  }
  return failed
}

const cannot = missing('systemctl', 'journalctl')
test.skipIf(cannot)(
  withReason(
    `a node whose Pod of the DaemonSet is replaced serves ${CONTAINERS} containers, new ones and execs all the time; without Pods nothing stays`,
    cannot,
  ),
  { timeout: 300_000 + 1000 * CONTAINERS },
  async () => {
    const host = await ServiceHost.start({ hasJournal: true, isBare: true })
    const loads: Load[] = []
    try {
      const images = [await image(host.directory, ''), await image(host.directory, '//2')]
      const open = join(host.directory, 'open')
      mkdirSync(open)
      await execute('chmod', ['1777', open])
      for (const words of [
        ['mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', '/opt'],
        ['mkdir', '-p', '/etc/intercede'],
      ])
        expect(await host.run(...words)).toMatchObject({ status: 0 })
      const pod = new Pod(host)
      await pod.start(images[0]!)
      const builds = [(await pod.ready()).stdout]
      const pid = await host.property('MainPID')
      for (let number = 0; number < CONTAINERS; number++) {
        const ways = { within: host.within, hasGroups: false, metadata, isSingle: true, processes: 1 }
        loads.push(new Load(host, `load-${number}`, ways))
      }
      const find = (): Promise<Done> => host.run(`${TOP}/bin/intercede`, 'inspect', 'load-0', '--format', '{pid}')
      await until('the container is known', async () => (await find()).status === 0, 60)
      let isOver = false
      const started = starts(host, { id: 'load-0', pid: (await find()).stdout.trim() }, () => isOver)
      await sleep(1000)
      for (const next of [images[1]!, images[0]!]) {
        await pod.end()
        await sleep(500)
        await pod.start(next)
        const before = builds.at(-1)
        await until('the service is the new program', async () => (await pod.ready()).stdout !== before, 60)
        builds.push((await pod.ready()).stdout)
        await sleep(1000)
      }
      isOver = true
      expect(await started).toEqual([])
      const said = await Promise.all(loads.map((load) => load.end()))
      console.log(`rollouts: ${said.reduce((sum, { calls }) => sum + calls, 0)} calls, the longest`, {
        ms: Math.max(...said.map(({ longestMs }) => longestMs)),
      })
      for (const { failures, acts } of said)
        expect({ failures, hasActed: acts > 0 }).toEqual({ failures: {}, hasActed: true })
      expect(builds).toEqual([builds[0], expect.not.stringMatching(builds[0]!.trim()), builds[0]])
      expect(await host.property('MainPID')).toBe(pid)
      // A node whose DaemonSet is gone serves what runs, and then removes it all.
      loads.push(new Load(host, 'last', { within: host.within, hasGroups: false, metadata, processes: 1 }))
      await sleep(1000)
      await pod.end()
      const leave = async (): Promise<string> => {
        await host.run('touch', '-d', '1 hour ago', '/run/intercede/pod')
        expect(await host.run('systemctl', 'start', 'intercede-leave.service')).toMatchObject({ status: 0 })
        const files = `/opt/* /etc/intercede /run/intercede ${OPERATOR} /run/systemd/system/intercede*`
        return (await host.run('sh', '-c', `ls -d ${files}`)).stdout
      }
      // A minute in which a Pod whose node's clock was set would touch its file again.
      expect(await host.run('systemctl', 'set-environment', 'AGAIN_SECONDS=1')).toMatchObject({ status: 0 })
      expect(await leave()).toContain(TOP)
      expect((await loads.at(-1)!.end()).failures).toEqual({})
      await until('nothing stays', async () => (await leave()) === '', 60)
      expect((await host.run('systemctl', 'list-units', '--all', '--plain', '--no-legend', 'intercede*')).stdout).toBe(
        '',
      )
    } finally {
      for (const load of loads) await load.kill()
      await host.close()
    }
  },
)

test.skipIf(cannot)(
  withReason('a node with a service of its own is refused before anything of it is replaced', cannot),
  { timeout: 120_000 },
  async () => {
    const host = await ServiceHost.start({ hasJournal: true, isBare: true })
    try {
      const image = join(host.directory, 'image')
      cpSync(KUBERNETES, join(image, 'lib/intercede/deploy/kubernetes'), { recursive: true })
      const unit = '/etc/systemd/system/intercede.service'
      const own = `mount -t tmpfs none /opt; mkdir -p /etc/intercede; echo own >/etc/intercede/config.yaml
        printf '[Service]\nExecStart=/bin/true\n' >${unit}; systemctl daemon-reload`
      expect(await host.run('sh', '-ec', own)).toMatchObject({ status: 0 })
      const refused = await new Pod(host).prepare(image, firstCommand())
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining(`a service of its own, ${unit}:`) })
      const files = await host.run('sh', '-c', 'cat /etc/intercede/config.yaml; ls /opt /run/intercede 2>/dev/null')
      expect(files.stdout).toBe('own\n/opt:\n')
    } finally {
      await host.close()
    }
  },
)
