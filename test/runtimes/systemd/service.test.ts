import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CLI, Maker } from '../../support/daemon.ts'
import { missing } from '../../support/fixtures.ts'
import { BASE, execute, until } from '../../support/host.ts'
import { Installed } from '../../support/installed.ts'
import { Load, sleep } from '../../support/restart-world.ts'
import { ServiceHost } from '../../support/service-host.ts'
import { withReason } from '../../support/skipped.ts'

/** More on demand: npm run restart -- --keeper N. */
const RESTARTS = Number(process.env.INTERCEDE_RESTARTS ?? 4)
const POLICY = Object.entries({
  mknod: 'true',
  setxattr: 'true',
  'setxattr.read': 'true',
  sched_setscheduler: 'true',
  'sched_setscheduler.max_priority': '10',
  sysinfo: 'true',
  mount: 'true',
  'mount.allowed': 'hugetlbfs',
})
const metadata = POLICY.map(([key, value]) => `security.syscalls.intercept.${key}=${value}`).join('\n')

const cannot = missing('systemctl', 'systemd-analyze')

/** What systemd keeps without a container: journal, lasting memory, records, counts and directory. */
const MEMORIES = '5'

/** A killed process can leave nothing to the next one but what systemd had before: what takes several calls is lost in between. */
const WAYS = [
  { how: 'systemctl restart', command: ['restart'], isSingle: false, restarts: RESTARTS },
  { how: 'SIGKILL', command: ['kill', '--signal=KILL'], isSingle: true, restarts: Math.ceil(RESTARTS / 2) },
] as const

test.skipIf(cannot).each(WAYS)(
  withReason(
    'the service ends by $how under load, $restarts times: every call returns what it must, and is done once',
    cannot,
  ),
  { timeout: 120_000 + 15_000 * RESTARTS },
  async ({ how, command, isSingle, restarts }) => {
    const host = await ServiceHost.start()
    let load: Load | undefined
    try {
      // Nothing runs: the first runtime that connects starts it.
      expect(await host.property('MainPID')).toBe('0')
      load = new Load(host, 'load', { within: host.within, hasGroups: false, metadata, isSingle })
      await until('the service runs', () => logged(host, 'serving') === 1, 60)
      const pids = new Set([await host.property('MainPID')])
      for (let restart = 0; restart < restarts; restart++) {
        await sleep(Math.random() * 500)
        expect(await host.run('systemctl', ...command, 'intercede.service')).toMatchObject({ status: 0 })
        await until('the service runs again', () => logged(host, 'serving') === restart + 2, 60)
        pids.add(await host.property('MainPID'))
      }
      const said = await load.end()
      console.log(`${restarts} x ${how}`, said, await host.property('NFileDescriptorStore'))
      expect(pids.size).toBe(restarts + 1)
      // systemd closes what it has stored when it gets to it: a mount that was on its way is busy until then.
      const { 'a descriptor too many': spare = 0, ...failures } = said.failures
      expect(failures).toEqual({})
      expect(spare).toBeLessThanOrEqual(1 + restarts / 10)
      expect(said.busy).toBeLessThanOrEqual(1 + restarts / 2)
      expect(said.acts).toBeGreaterThan(said.calls / 3)
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      expect(host.log.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual([])
      expect(host.log.filter(({ message }) => message === 'container goes on')).toHaveLength(restarts)
      // Of a container that has ended nothing is kept: there are the five memories.
      await until('it is known that the container has ended', () => logged(host, 'container ended') === 1, 60)
      await until('all is forgotten', async () => (await host.property('NFileDescriptorStore')) === MEMORIES)
    } finally {
      await load?.kill()
      await host.close()
    }
  },
)

test.skipIf(cannot)(
  withReason(
    `${RESTARTS} reloads of the service under load: the process is the same, every call returns what it must, and is done once`,
    cannot,
  ),
  { timeout: 120_000 + 15_000 * RESTARTS },
  async () => {
    const host = await ServiceHost.start()
    let load: Load | undefined
    try {
      load = new Load(host, 'load', { within: host.within, hasGroups: false, metadata })
      await until('the container is known', () => logged(host, 'container') === 1, 60)
      // A reload that is asked for before is part of the start for systemd: nothing is told.
      await until('it has started', async () => (await host.property('ActiveState')) === 'active')
      expect(await host.property('StatusText')).toMatch(/^1 container, \d+ listeners?$/)
      const pid = await host.property('MainPID')
      for (let reload = 0; reload < RESTARTS; reload++) {
        await sleep(Math.random() * 500)
        expect(await host.run('systemctl', 'reload', 'intercede.service')).toMatchObject({ status: 0 })
        // Once that has returned it serves and has said so, which may still be on its way to us.
        await until('it has said that it serves', () => logged(host, 'serving') === reload + 2)
      }
      expect(await host.property('MainPID')).toBe(pid)
      host.configure('defautl: {}')
      expect(await host.run('systemctl', 'reload', 'intercede.service')).toMatchObject({ status: 1 })
      await until('it serves on', async () => (await host.property('ActiveState')) === 'active', 60)
      expect(await host.property('StatusText')).toMatch(/cannot reload: .*unknown key "defautl"/)
      host.configure('')
      const said = await load.end()
      console.log(`${RESTARTS} reloads`, said)
      const { 'a descriptor too many': spare = 0, ...failures } = said.failures
      expect(failures).toEqual({})
      expect(said.busy).toBeLessThanOrEqual(1 + RESTARTS / 4)
      expect(spare).toBeLessThanOrEqual(1 + RESTARTS / 10)
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      // What systemd keeps is still all that the next process needs.
      load = new Load(host, 'later', { within: host.within, hasGroups: false, metadata, isSingle: true })
      await until('the container is known', () => logged(host, 'container') === 2, 60)
      await host.run('systemctl', 'kill', '--signal=KILL', 'intercede.service')
      await until('the service runs again', () => logged(host, 'serving') === RESTARTS + 2, 60)
      expect(await host.property('MainPID')).not.toBe(pid)
      expect((await load.end()).failures).toEqual({})
      // Nothing was stored twice.
      await until('all is forgotten', async () => (await host.property('NFileDescriptorStore')) === MEMORIES, 60)
    } finally {
      await load?.kill()
      await host.close()
    }
  },
)

/** Starts a container that may make nothing yet. @returns it, its id, and the command line in the system */
async function refusedContainer(host: ServiceHost, directory: string) {
  const off = ['--metadata', 'security.syscalls.intercept.mknod=false']
  const maker = new Maker({ socket: host.socket, directory }, off, host.within)
  expect(await maker.make()).toBe('Operation not permitted')
  const intercede = (...words: readonly string[]) => host.run(process.execPath, CLI, ...words)
  const id = (await intercede('ps', '--format', '{id}')).stdout.trim()
  return { maker, id, intercede }
}

/** As crun between create and start: connects, says nothing, and says if the connection ends. Ends with its input. */
const SILENT = `import select, socket, sys
with socket.socket(socket.AF_UNIX) as runtime:
    runtime.connect(sys.argv[1])
    print("connected", flush=True)
    if runtime in select.select([runtime, sys.stdin], [], [])[0]: print("over", flush=True)`

function silentRuntime(host: ServiceHost): { readonly child: ChildProcess; readonly said: () => string } {
  const [program = '', ...words] = [...host.within, 'python3', '-c', SILENT, host.socket]
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  return { child, said: () => said }
}

test.skipIf(cannot)(
  withReason('what was set holds over a restart of the service, by its own control.sock', cannot),
  { timeout: 120_000 },
  async () => {
    const host = await ServiceHost.start()
    const directory = mkdtempSync(join(tmpdir(), 'intercede-set-'))
    chownSync(directory, BASE, BASE)
    let maker: Maker | undefined
    const silent = silentRuntime(host)
    try {
      const { id, intercede, ...begun } = await refusedContainer(host, directory)
      maker = begun.maker
      expect(await intercede('set', id, 'mknod')).toMatchObject({ status: 0 })
      expect(await maker.make()).toBe('ok')
      await until('a runtime has connected', () => silent.said() === 'connected\n')
      expect(await host.run('systemctl', 'restart', 'intercede.service')).toMatchObject({ status: 0 })
      await until('the service runs again', () => logged(host, 'serving') === 2, 60)
      expect(await maker.make()).toBe('ok')
      const [about] = JSON.parse((await intercede('inspect', id, '--format', 'json')).stdout)
      expect(about.keys.mknod).toMatchObject({ value: 'true', origin: 'set' })
      expect(about.set).toMatchObject([{ key: 'mknod', value: 'true', by: 'root' }])
      expect(await intercede('reload')).toEqual({ status: 0, stdout: '0 of 1 container changed\n', stderr: '' })
      expect(await maker.make()).toBe('ok')
      // The next process has its connection.
      expect(silent.said()).toBe('connected\n')
      silent.child.stdin!.end()
      maker.end()
      await until('all is forgotten', async () => (await host.property('NFileDescriptorStore')) === MEMORIES, 60)
    } finally {
      silent.child.stdin!.end()
      maker?.end()
      await host.close()
      rmSync(directory, { recursive: true, force: true })
    }
  },
)

test.skipIf(cannot)(
  withReason('systemctl status counts listeners as they are, also after a restart and a failed reload', cannot),
  { timeout: 120_000 },
  async () => {
    const host = await ServiceHost.start()
    const directory = mkdtempSync(join(tmpdir(), 'intercede-status-'))
    chownSync(directory, BASE, BASE)
    const makers: Maker[] = []
    const says = (text: RegExp): Promise<void> =>
      until(`it says ${text}`, async () => text.test(await host.property('StatusText')), 10)
    try {
      const { maker, id } = await refusedContainer(host, directory)
      makers.push(maker)
      await says(/^1 container, 1 listener$/)
      makers.push(new Maker({ socket: host.socket, directory }, ['--id', id, '--status', 'running'], host.within))
      await makers[1]!.make()
      await says(/^1 container, 2 listeners$/)
      host.configure('defautl: {}')
      expect(await host.run('systemctl', 'reload', 'intercede.service')).toMatchObject({ status: 1 })
      makers.pop()!.end()
      await says(/^1 container, 1 listener; cannot reload: .*unknown key "defautl"/)
      host.configure('')
      expect(await host.run('systemctl', 'restart', 'intercede.service')).toMatchObject({ status: 0 })
      await says(/^1 container, 1 listener$/)
    } finally {
      for (const each of makers) each.end()
      await host.close()
      rmSync(directory, { recursive: true, force: true })
    }
  },
)

/** The places between the messages to systemd that change what it keeps of a container. */
const WHERE = [
  'this.#writeContainer(beside, container);',
  'this.#manager.remove(name);\n        this.#writeContainer(name, container);',
  'this.#writeContainer(name, container);',
  'this.#manager.remove(beside);\n    }\n    #writeContainer',
]

test.skipIf(cannot).each(WHERE)(
  withReason('a keeper that is killed while it stores what was set (%j) loses no container', cannot),
  { timeout: 120_000 },
  async (where) => {
    const installed = new Installed()
    installed.rewrite('keeper/persist/persisted-state.js', where, `process.kill(process.pid, 'SIGKILL'); ${where}`)
    await installed.replace()
    const host = await ServiceHost.start({ program: installed.program })
    const directory = mkdtempSync(join(tmpdir(), 'intercede-set-'))
    chownSync(directory, BASE, BASE)
    let maker: Maker | undefined
    try {
      const { id, intercede, ...begun } = await refusedContainer(host, directory)
      maker = begun.maker
      expect(await intercede('set', id, 'mknod')).toMatchObject({ status: 125 })
      await until('the service runs again', () => logged(host, 'serving') === 2, 60)
      expect(host.log.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual([])
      expect(logged(host, 'container goes on')).toBe(1)
      expect((await intercede('ps', '--format', '{id} {state}')).stdout).toBe(`${id} served\n`)
      // It was not answered, so both are right.
      expect(await maker.make()).toBe(where === WHERE[0] ? 'Operation not permitted' : 'ok')
      maker.end()
      await until('all is forgotten', async () => (await host.property('NFileDescriptorStore')) === MEMORIES, 60)
    } finally {
      maker?.end()
      await host.close()
      installed.remove()
      rmSync(directory, { recursive: true, force: true })
    }
  },
)

test.skipIf(cannot)(
  withReason('while the configuration is broken, calls wait for the service; then they are served', cannot),
  { timeout: 180_000 },
  async () => {
    const host = await ServiceHost.start()
    let load: Load | undefined
    try {
      load = new Load(host, 'load', { within: host.within, hasGroups: false, metadata, isSingle: true })
      await until('the container is known', () => logged(host, 'container') === 1, 60)
      host.configure('defautl: {}')
      await host.run('systemctl', 'restart', '--no-block', 'intercede.service')
      await until('it was tried again', async () => Number(await host.property('NRestarts')) > 2, 60)
      expect(logged(host, 'serving')).toBe(1)
      host.configure('')
      await until('the service runs again', () => logged(host, 'serving') === 2, 60)
      const said = await load.end()
      expect(said.failures).toEqual({})
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      expect(logged(host, 'container goes on')).toBe(1)
    } finally {
      await load?.kill()
      await host.close()
    }
  },
)

test.skipIf(cannot)(
  withReason('what docs/guide/service.md says to remove it leaves no process, socket or unit', cannot),
  { timeout: 120_000 },
  async () => {
    const page = readFileSync(new URL('../../../docs/guide/service.md', import.meta.url), 'utf8')
    const [, commands] = /^To remove it:\n\n```\n([\s\S]*?)^```$/m.exec(page)!
    // Only /etc and /var are layers that are thrown away, and the drop-ins are the test's.
    const here = `rm -r /etc/systemd/system/intercede*.d; mkdir -p /etc/intercede /var/lib/intercede; ${commands!.replace(' /usr/local/bin/intercede', '')}`
    const host = await ServiceHost.start()
    try {
      await host.run('systemctl', 'start', 'intercede.service')
      await until('the service runs', () => logged(host, 'serving') === 1, 60)
      const pid = await host.property('MainPID')
      const done = await host.run('sh', '-ec', here)
      expect(done.status, done.stderr).toBe(0)
      const left = `ls -d /proc/${pid} /run/intercede/*.sock /etc/systemd/system/intercede* /etc/intercede /var/lib/intercede 2>/dev/null; true`
      expect((await host.run('sh', '-c', left)).stdout).toBe('')
      expect(await host.property('LoadState')).toBe('not-found')
    } finally {
      await host.close()
    }
  },
)

test.skipIf(cannot)(
  withReason('the score of the unit in the documents is what systemd-analyze gives it', cannot),
  async () => {
    const { stdout } = await execute('systemd-analyze', [
      'security',
      '--offline=yes',
      '--no-pager',
      'deploy/systemd/intercede.service',
    ])
    expect(stdout).toMatch(/Overall exposure level for intercede.service: 8\.5/)
  },
)

const logged = (host: ServiceHost, message: string): number =>
  host.log.filter((line) => line.message === message).length
