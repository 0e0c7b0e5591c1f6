import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FeedSocket } from '../../../src/keeper/feed/readers.ts'
import { openMemory, openRecords } from '../../../src/keeper/persist/memories.ts'
import { PersistedState } from '../../../src/keeper/persist/persisted-state.ts'
import { Reactor } from '../../../src/keeper/process/reactor.ts'
import { DirectoryWriter } from '../../../src/memories/directory.ts'
import { Api } from '../../support/api.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-names-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** Annotations by which containerd names a container. */
const named = (name: string): readonly string[] =>
  Object.entries({
    ...{ 'container-name': name, 'image-name': 'debian:13', 'sandbox-name': 'pod-1', 'sandbox-namespace': 'team' },
  }).flatMap(([key, value]) => ['--annotation', `io.kubernetes.cri.${key}=${value}`])

const feedOf = ({ directory }: Daemon): string => join(directory, 'feed.sock')
const ask = (daemon: Daemon, ...words: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, ...words, '--feed', feedOf(daemon)])
const rowsOf = async (daemon: Daemon, ...words: readonly string[]): Promise<readonly Record<string, unknown>[]> => {
  const { stdout } = await ask(daemon, ...words, '--format', 'json')
  return stdout.startsWith('[')
    ? JSON.parse(stdout)
    : stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
}

/** Asks as on a terminal of so many columns. @returns the lines without their ends */
async function onTerminal(columns: number, daemon: Daemon, ...words: readonly string[]): Promise<readonly string[]> {
  const command = [
    'stty',
    'cols',
    `${columns};`,
    process.execPath,
    `"${CLI}"`,
    ...words,
    '--feed',
    feedOf(daemon),
  ].join(' ')
  const { stdout } = await execute('script', ['-qec', command, '/dev/null'])
  return stdout.replace(/\r/g, '').trimEnd().split('\n')
}

const HOSTILE = 'web\u001b[31m\u009b"}\n'
const SHOWN = 'web\\033[31m\\302\\233"}\\012'
const LONG = `long-${'x'.repeat(291)}-end`
const WHICH = { image: 'debian:13', namespace: 'team', pod: 'pod-1' }
const POD = 'team/pod-1'

describe('a container with a name', () => {
  let daemon: Daemon
  let api: Api
  const makers: Maker[] = []
  beforeAll(async () => {
    daemon = await Daemon.start('metrics: { container: true }')
    api = await Api.start(feedOf(daemon))
    // Two share a name, and of two outside of Pods one is called like the id of another, and one as ids look.
    const all = {
      first: HOSTILE,
      second: LONG,
      third: 'twin',
      fourth: 'twin',
      fifth: 'first',
      sixth: '0123456789abcdef',
    }
    for (const [id, name] of Object.entries(all)) {
      const names = id === 'fifth' || id === 'sixth' ? ['--annotation', `nerdctl/name=${name}`] : named(name)
      const maker = new Maker(daemon, ['--id', id, ...names])
      expect(await maker.make()).toBe('ok')
      makers.push(maker)
    }
    const off = new Maker(daemon, [
      '--id',
      'off',
      ...named('off'),
      '--metadata',
      'security.syscalls.intercept.mknod=false',
    ])
    await off.make()
    makers.push(off)
    await until('all is counted', async () => (await rowsOf(daemon, 'ps')).every(({ calls }) => calls === 1))
  })
  afterAll(async () => {
    for (const maker of makers) maker.end()
    await api?.close()
    await daemon?.close()
  })

  test('has it in every list, with image and pod, and escaped', async () => {
    const shown = { name: SHOWN, ...WHICH }
    expect(await rowsOf(daemon, 'ps')).toContainEqual(expect.objectContaining({ id: 'first', ...shown }))
    const events = await rowsOf(daemon, 'events', '--no-follow')
    expect(events.filter(({ container }) => container === 'first').map(({ type }) => type)).toEqual([
      'registered',
      'call',
    ])
    for (const event of events.filter(({ container }) => container === 'first')) expect(event).toMatchObject(shown)
    expect(await rowsOf(daemon, 'explain')).toMatchObject([
      { container: 'off', name: 'off', ...WHICH, reason: 'keyOff' },
    ])
    const texts = [
      (await ask(daemon, 'events', '--no-follow')).stdout,
      (await ask(daemon, 'events', '--no-follow', '--format', 'strace')).stdout,
      (await ask(daemon, 'ps')).stdout,
    ]
    for (const text of texts) {
      expect(text).toContain(SHOWN)
      expect(text).toMatch(/^[ -~\n]*$/)
    }
    expect(texts[0]).toContain(`  first (${POD}/${SHOWN})  done  mknod`)
    expect(texts[1]).toContain(`[first (${POD}/${SHOWN})] `)
    const one = await rowsOf(daemon, 'events', '--no-follow', '--filter', 'name=off,type=call')
    expect(one).toMatchObject([{ container: 'off' }])
    const none = await ask(daemon, 'events', '--no-follow', '--filter', 'name=nobody')
    expect(none).toMatchObject({ stdout: '', stderr: 'intercede: No event matches; --since 1d looks in history too\n' })
    const [, two] = await rowsOf(daemon, 'events', `${POD}/off`, '--no-follow', '--filter', 'namespace=team,pod=pod-1')
    expect(two).toMatchObject({ container: 'off', type: 'call' })
    expect((await ask(daemon, 'explain', `${POD}/off`)).stdout).toMatch(
      /^off \(team\/pod-1\/off\): mknod(.|\n)*\n\n.* was judged by the kernel alone, and is not known here\.\n$/,
    )
    expect((await ask(daemon, 'ps', '--format', '{namespace} {pod} {name}')).stdout).toContain('team pod-1 off\n')
    for (const kind of ['container', 'call']) {
      const line = daemon.log.find(({ message, container }) => message === kind && container === 'off')
      expect(line).toMatchObject({ name: 'off', ...WHICH })
    }
  })

  test('has it in the API and in metrics', async () => {
    const refusals = JSON.parse((await api.ask('/v1/refusals')).text)
    expect(refusals).toMatchObject([{ container: 'off', name: 'off', ...WHICH }])
    const events = (await api.ask('/v1/events?follow=false')).text.trim().split('\n')
    const call = events
      .map((line) => JSON.parse(line))
      .find(({ type, container }) => type === 'call' && container === 'off')
    expect(call).toMatchObject({ name: 'off', ...WHICH, time: expect.stringMatching(/Z$/) })
    const metrics = (await ask(daemon, 'metrics')).stdout
    expect(metrics).toMatch(/^intercede_calls_total\{.*,container="off",name="off",namespace="team",pod="pod-1"\} 1$/m)
    expect(metrics).toContain(`,container="first",name="${SHOWN.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}",name`)
    expect(metrics).toContain(',container="fifth",name="first"} 1\n')
  })

  test('has it in top, where that tells it from all others', { timeout: 30_000 }, async () => {
    const [, second, third] = makers
    let isMeasured = false
    const measured = Promise.all([
      ask(daemon, 'top', '--once', '--interval', '2'),
      rowsOf(daemon, 'top', '--once', '--interval', '2'),
    ]).finally(() => {
      isMeasured = true
    })
    while (!isMeasured) for (const maker of [second!, third!]) await maker.make()
    const [{ stdout }, rows] = await measured
    expect(stdout).toMatch(new RegExp(`^(third|${POD}/${LONG}) +mknod.*\\n(third|${POD}/${LONG}) +mknod`, 'm'))
    expect(rows).toContainEqual(expect.objectContaining({ container: 'third', name: 'twin', ...WHICH }))
  })

  test.each([40, 80, 120])('is in ps with its state, outcomes and last refusal in %i columns', async (columns) => {
    const lines = await onTerminal(columns, daemon, 'ps')
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns)
    const head = columns < 60 ? /^NAME +STATE +DONE +LEFT$/ : /^NAME +STATE +DONE +LEFT +LAST REFUSAL$/
    expect(lines[0]).toMatch(head)
    const off = lines.findIndex((line) => /^(team\/pod-1|tea\.\.\.-1)\/off +served +0 +1/.test(line))
    expect(columns < 60 ? lines[off + 1] : lines[off]).toMatch(/ {2}mknodat keyOff, \d+[sm] ago$/)
    const long = lines.find((line) => line.includes('xx-end '))
    expect(long).toMatch(/^tea\S*\.\.\.x+-end +served +\d+ +0$/)
    // A name that means two containers, or looks like an id, names none.
    const doubtful = [`third ${POD}/twin`, `fourth ${POD}/twin`, 'fifth first', 'sixth 0123456789abcdef']
    const shown = doubtful.map((cell) => cell.slice(0, columns < 60 ? 3 : 8))
    for (const cell of shown) expect(lines.some((line) => line.startsWith(cell))).toBe(true)
  })

  test('has its keys, image and whole last call in ps --wide', async () => {
    const { stdout } = await ask(daemon, 'ps', '--wide')
    expect(stdout).toMatch(/^CONTAINER +RUNTIME +NAME +IMAGE +COMMAND +PID +KEYS +STATE .* LAST REFUSAL\n/)
    expect(stdout).toMatch(/^off .* team\/pod-1\/off .* debian:13 .* mknodat\(.*, 1:3\) keyOff, \d+[sm] ago$/m)
    // What a terminal has no room for, it shows on the next line.
    const lines = await onTerminal(80, daemon, 'ps', '--wide')
    expect(lines[0]).toMatch(/^CONTAINER .* LAST REFUSAL$/)
    // A long name is whole where nobody looks, and widens no table on a terminal.
    expect(stdout).toContain(` ${POD}/${LONG} `)
    expect(lines.some((line) => / team\/pod-1\/long-xxx\.\.\.x{34}-end +debian/.test(line))).toBe(true)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(300)
  })

  test('shows times in ISO 8601 wherever it shows JSON', async () => {
    const commands = [['ps', '--all'], ['inspect', 'off'], ['explain'], ['events', '--no-follow'], ['status']]
    const outputs = await Promise.all(commands.map((words) => ask(daemon, ...words, '--format', 'json')))
    const answers = ['/v1/containers?all=true', '/v1/containers/off', '/v1/refusals', '/v1/events?follow=false']
    const bodies = await Promise.all(answers.map((path) => api.ask(path)))
    const all = [...outputs.map(({ stdout }) => stdout), ...bodies.map(({ text }) => text)]
    for (const text of all) {
      expect(text).toMatch(/"(time|since|lastRefusalTime)":"20\d\d-/)
      // Milliseconds since 1970 have 13 digits.
      expect(text).not.toMatch(/:1\d{12}\b/)
    }
    const { stdout } = await ask(daemon, 'inspect', 'off', '--format', '{since}')
    expect(stdout).toMatch(/^20\d\d-.*Z\n$/)
  })

  test('is told from where a key has its value that refused a call', async () => {
    const remedy = async (): Promise<unknown> => (await rowsOf(daemon, 'explain', 'off'))[0]!.remedy
    expect(await remedy()).toBe('turn it on: it is off by its metadata')
    await ask(daemon, 'set', 'off', 'mknod')
    expect(await remedy()).toBe('nothing: it is allowed by now')
    await ask(daemon, 'set', 'off', 'mknod=false')
    expect(await remedy()).toBe('turn it on: it is off by "intercede set"')
    await ask(daemon, 'set', 'off', '--unset', 'mknod')
  })

  test('has it in the answer of reload', async () => {
    daemon.configure('metrics: { container: true }\ndefault: { sysinfo: true }')
    const words = [CLI, 'reload', '--control', join(daemon.directory, 'control.sock')]
    const { stdout } = await execute(process.execPath, words)
    expect(stdout).toContain(`first (${POD}/${SHOWN})\n  security.syscalls.intercept.sysinfo: true (configuration)`)
    expect(stdout).toMatch(/^[ -~\n]*$/)
  })
})

describe.each(['SIGKILL', 'SIGTERM'] as const)('a container whose daemon was ended by %s', (signal) => {
  test('and that had no refusals is shown as not served, with name and pid', { timeout: 90_000 }, async () => {
    const config = `history: { path: ${join(scratch, signal)}, size: 1m }`
    const before = await Daemon.start(config)
    const maker = new Maker(before, ['--id', 'orphan', ...named('build')])
    let after: Daemon | undefined
    let executed: Maker | undefined
    let api: Api | undefined
    try {
      expect(await maker.make()).toBe('ok')
      const [{ pid } = {}] = await rowsOf(before, 'ps')
      process.kill(before.pid!, signal)
      await until('the daemon has ended', () => before.pid === undefined, 10)
      // Its engine ends a moment later.
      await until('nobody serves it', async () => (await maker.make()) !== 'ok')
      after = await Daemon.start(config)
      const orphan = { id: 'orphan', name: 'build', pid, state: 'unserved', ...WHICH }
      expect(await rowsOf(after, 'ps')).toMatchObject([orphan])
      expect(await rowsOf(after, 'ps', '--all')).toMatchObject([orphan])
      expect((await ask(after, 'status')).stdout).toMatch(
        /^containers {2}0 served, .*, 1 not served by any daemon, 0 list/m,
      )
      expect((await ask(after, 'status', '--format', '{unserved}')).stdout).toBe('1\n')
      api = await Api.start(feedOf(after))
      const answer = async (path: string): Promise<unknown> => JSON.parse((await api!.ask(path)).text)
      expect(await answer('/v1/status')).toMatchObject({ containers: 0, unserved: 1 })
      for (const path of ['/v1/containers', '/v1/containers?all=true'])
        expect(await answer(path)).toMatchObject([orphan])
      expect(await answer('/v1/containers/build')).toMatchObject(orphan)
      expect(await answer('/v1/containers/orphan/refusals')).toEqual([])
      expect(await answer('/v1/refusals')).toEqual([])
      const gauge = (text: string): string | undefined => /^intercede_containers_unserved (\d+)$/m.exec(text)?.[1]
      expect(gauge((await api.ask('/metrics')).text)).toBe('1')
      expect(gauge((await ask(after, 'metrics')).stdout)).toBe('1')
      const isKnown = signal === 'SIGTERM'
      const done = isKnown ? '1\\+' : '-'
      expect((await ask(after, 'ps')).stdout).toMatch(new RegExp(`^${POD}/build +not served +${done} +-`, 'm'))
      const said = isKnown ? '1 until .*: 1 done,.*; later ones are not known' : 'none until .*'
      expect((await ask(after, 'inspect', 'build')).stdout).toMatch(new RegExp(`^calls +${said}$`, 'm'))
      const says =
        'orphan (team/pod-1/build) is not served: the daemon that served it has ended, so trapped calls fail with ENOSYS; restart the container'
      for (const words of [['explain', 'build'], ['explain']])
        expect(await ask(after, ...words)).toMatchObject({ status: 0, stdout: `${says}\n` })
      const json = await ask(after, 'explain', 'build', '--format', 'json')
      expect(json).toEqual({ status: 0, stdout: '[]\n', stderr: `intercede: ${says}\n` })
      expect((await ask(after, 'inspect', 'build')).stdout).toMatch(/^state +not served\n(.*\n)*pid of init +\d+$/m)
      expect(await ask(after, 'set', 'build', 'mknod')).toMatchObject({
        ...{ status: 1, stdout: '' },
        stderr: 'intercede: Cannot set keys of container "build": no daemon serves it any more; restart it\n',
      })
      // Not every runtime passes on the name of what is executed.
      executed = new Maker(after, ['--id', 'orphan', '--status', 'running'])
      expect(await executed.make()).not.toBe('ok')
      executed.end()
      const past = (): Promise<Done> => ask(after!, 'events', '--no-follow')
      await until('what was executed has ended', async () => /ended/.test((await past()).stdout), 10)
      expect((await past()).stdout).toMatch(/orphan .*ended: the process that was handed over has ended/)
      // What it did counts as the container's, in every list and after the next daemon.
      const counted = [
        {
          ...orphan,
          done: isKnown ? 1 : 0,
          left: 1,
          countedUntil: expect.stringMatching(/^20.*Z$/),
          lastRefusal: expect.stringMatching(/^mknod/),
        },
      ]
      for (const words of [['ps'], ['ps', '--all']]) expect(await rowsOf(after, ...words)).toMatchObject(counted)
      for (const path of ['/v1/containers', '/v1/containers?all=true'])
        expect(await answer(path)).toMatchObject(counted)
      expect(await answer('/v1/containers/build/refusals')).toMatchObject([{ reason: 'unknownContainer' }])
      await api.close()
      await after.close()
      after = await Daemon.start(config)
      api = await Api.start(feedOf(after))
      for (const words of [['ps'], ['ps', '--all']]) expect(await rowsOf(after, ...words)).toMatchObject(counted)
      expect((await ask(after, 'explain', 'build')).stdout).toMatch(
        /^orphan \(team.*\).*: mknod.*\n.*unknownContainer/m,
      )
      maker.end()
      await until('it is known to have ended', async () => (await rowsOf(after!, 'ps')).length === 0)
      expect(await rowsOf(after, 'ps', '--all')).toMatchObject([{ id: 'orphan', name: 'build', state: 'ended' }])
      await until('the API knows', async () => gauge((await api!.ask('/metrics')).text) === '0', 30)
      expect(await answer('/v1/containers')).toEqual([])
    } finally {
      await api?.close()
      executed?.end()
      maker.end()
      await after?.close()
      await before.close()
    }
  })
})

test.each(['without history', 'with history'])(
  'what is executed in an old container is one row of ps --all, however often, %s',
  { timeout: 60_000 },
  async (kept) => {
    const history = kept === 'with history' ? `history: { path: ${join(scratch, 'often')} }` : ''
    const before = await Daemon.start(history)
    const maker = new Maker(before, ['--id', 'old'])
    let after: Daemon | undefined
    const executed: Maker[] = []
    try {
      await maker.make()
      await before.close()
      after = await Daemon.start(history)
      for (let count = 1; count <= 3; count++) {
        const one = new Maker(after, ['--id', 'old', '--status', 'running'])
        executed.push(one)
        await one.make()
        // The last one is still there.
        if (count < 3) one.end()
        await until('it is counted', async () => {
          const rows = await rowsOf(after!, 'ps', '--all')
          return rows.length === 1 && rows[0]!.left === count
        })
      }
    } finally {
      for (const one of [...executed, maker]) one.end()
      await after?.close()
      await before.close()
    }
  },
)

test('a container that was made again under its name has what was refused before', { timeout: 60_000 }, async () => {
  const daemon = await Daemon.start()
  const makers: Maker[] = []
  const make = (id: string, ...more: readonly string[]): Promise<string> => {
    makers.push(new Maker(daemon, ['--id', id, ...named('again'), ...more]))
    return makers.at(-1)!.make()
  }
  try {
    expect(await make('first', '--metadata', 'security.syscalls.intercept.mknod=false')).not.toBe('ok')
    makers[0]!.end()
    await until('it has ended', async () => (await rowsOf(daemon, 'ps')).length === 0)
    expect(await make('second')).toBe('ok')
    expect((await ask(daemon, 'explain', 'again')).stdout).toMatch(/^first \(team\/pod-1\/again\), ended .* ago: mknod/)
    const events = (await ask(daemon, 'events', 'again', '--no-follow')).stdout
    for (const id of ['first', 'second']) expect(events).toMatch(new RegExp(`${id} \\(.*registered`))
    // Of LXC, the name of one may be the id of another one, which has ended or is there.
    makers.push(new Maker(daemon, ['--id', 'other', ...named('first')]))
    expect(await makers.at(-1)!.make()).toBe('ok')
    expect((await ask(daemon, 'inspect', 'first', '--format', '{id} {state}')).stdout).toBe('other served\n')
    expect(await make('other-2', '--id', 'first')).toBe('ok')
    expect(await ask(daemon, 'inspect', 'first', '--format', '{id} {state}')).toEqual({
      ...{ status: 0, stdout: 'first served\n' },
      stderr: 'intercede: "first" is taken as an id; it is also the name of other\n',
    })
  } finally {
    for (const maker of makers) maker.end()
    await daemon.close()
  }
})

const noDocker = missing('dockerd', 'docker', 'nsenter')
/** Its users are in a file of the machine, so the test has another one there. */
const REMAPPED = ['/etc/subuid', '/etc/subgid']
  .map((file) => `echo nobody:100000:65536 >/run/ids && touch ${file} && mount --bind /run/ids ${file} &&`)
  .join(' ')
const ELSEWHERE = `echo '{"data-root":"/run/data"}' >/etc/docker/daemon.json &&`
test.skipIf(noDocker).each([
  { how: 'a container of Docker', prepare: '', option: '' },
  { how: 'one whose user ids Docker remaps', prepare: REMAPPED, option: '--userns-remap=nobody:nogroup' },
  { how: 'one of a Docker with another data-root', prepare: ELSEWHERE, option: '--log-level=warn' },
])(
  withReason('$how has its name, image and labels in all JSON, also after it was removed', noDocker),
  { timeout: 90_000 },
  async ({ prepare, option }) => {
    // Docker keeps its state where the machine has it, so this one has a mount namespace of its own.
    const folders = '/run /etc/docker /var/lib/docker /var/lib/containerd'
    const mounts = `for folder in ${folders}; do mkdir -p $folder && mount -t tmpfs none $folder || exit; done`
    const dockerd = 'exec dockerd --host unix:///run/docker.sock --iptables=false --ip6tables=false --bridge=none'
    const script = `mount --make-rprivate / && ${mounts}; ${prepare} ${dockerd} --storage-driver=vfs ${option}`
    const engine = spawn('unshare', ['--mount', '--net', 'sh', '-c', script], { stdio: 'ignore' })
    const over = new Promise((resolve) => engine.on('exit', resolve))
    const within = ['nsenter', `--mount=/proc/${engine.pid}/ns/mnt`]
    const inside = (...words: readonly string[]): Promise<Done> => execute(within[0]!, [within[1]!, ...words])
    const docker = (...words: readonly string[]): Promise<Done> =>
      inside('docker', '--host', 'unix:///run/docker.sock', ...words)
    let daemon: Daemon | undefined
    let [maker, other]: (Maker | undefined)[] = []
    try {
      await until('Docker answers', async () => (await docker('version')).status === 0, 60)
      expect(
        await inside('sh', '-c', 'tar -cT /dev/null | docker --host unix:///run/docker.sock import - empty:1'),
      ).toMatchObject({ status: 0 })
      const labels = { tier: 'front\u001b[31m', team: 'a' }
      const given = Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`])
      const create = async (name: string, ...more: readonly string[]): Promise<string> =>
        (await docker('create', '--name', name, ...more, 'empty:1', '/bin/x')).stdout.trim()
      const id = await create('old', ...given)
      daemon = await Daemon.start(`history: { path: ${join(scratch, `docker${option}`)} }`, CLI, within)
      const off = ['--metadata', 'security.syscalls.intercept.mknod=false']
      maker = new Maker(daemon, ['--id', id, ...off], within)
      await maker.make()
      const shown = { name: 'web', image: 'empty:1', labels: { tier: 'front\\033[31m', team: 'a' } }
      const names = async (): Promise<readonly unknown[]> => (await rowsOf(daemon!, 'ps')).map(({ name }) => name)
      await until('it has its name', async () => (await names())[0] === 'old')
      expect((await docker('rename', 'old', 'web')).status).toBe(0)
      const program = [process.execPath, CLI, 'inspect', '--feed', feedOf(daemon), '--format', '{id}']
      const find = async (word: string): Promise<string> => (await inside(...program, word)).stdout
      // At once, and then for everybody.
      expect(await find('web')).toBe(`${id}\n`)
      await until('it has its new name', async () => (await names())[0] === 'web')
      const second = await create('old')
      other = new Maker(daemon, ['--id', second], within)
      await until('another one has the old name', async () => (await names())[1] === 'old')
      expect(await find('old')).toBe(`${second}\n`)
      // Names that change hands are those of now, although the daemon shows others for a moment.
      const swap = async (): Promise<void> => {
        for (const [from, to] of [
          ['old', 'third'],
          ['web', 'old'],
          ['third', 'web'],
        ] as const)
          expect((await docker('rename', from, to)).status).toBe(0)
      }
      await swap()
      expect([await find('web'), await find('old')]).toEqual([`${second}\n`, `${id}\n`])
      await swap()
      expect([await find('web'), await find('old')]).toEqual([`${id}\n`, `${second}\n`])
      await until('the daemon has these names, too', async () => (await names()).join() === 'web,old')
      expect((await docker('rename', 'old', 'last')).status).toBe(0)
      other.end()
      await until('that one has ended', async () => (await names()).length === 1)
      expect(await rowsOf(daemon, 'ps', '--all')).toMatchObject([{ name: 'web' }, { id: second, name: 'last' }])
      expect((await docker('rm', id)).status).toBe(0)
      for (const words of [['ps'], ['explain'], ['events', '--no-follow', '--filter', 'type=call']])
        expect(await rowsOf(daemon, ...words)).toMatchObject([shown])
      const detail = await ask(daemon, 'inspect', 'web', '--format', 'json')
      expect(JSON.parse(detail.stdout)).toMatchObject([shown])
      maker.end()
      await until('it has ended', async () => (await rowsOf(daemon!, 'ps')).length === 0)
      expect(await rowsOf(daemon, 'explain', 'web')).toMatchObject([shown])
    } finally {
      other?.end()
      maker?.end()
      await daemon?.close()
      engine.kill('SIGTERM')
      await over
    }
  },
)

test('status says that an engine is starting, while nobody knows since when it serves', async () => {
  const state = new PersistedState(undefined)
  const { fd: records } = openRecords(state, 1024)
  const { fd: counts } = openMemory(state, 'counts')
  const { fd, memory } = openMemory(state, 'directory')
  const directory = new DirectoryWriter(memory)
  directory.daemon({ pid: process.pid, version: '0.1.0', since: Date.now(), reloaded: Date.now(), engines: 0 })
  directory.beat(4711)
  const reactor = new Reactor()
  const path = join(scratch, 'feed.sock')
  const socket = new FeedSocket(reactor, path, { records, counts, directory: fd }, state)
  try {
    const { status, stdout, stderr } = await execute(process.execPath, [CLI, 'status', '--feed', path])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^engine +pid 4711, starting$/m)
  } finally {
    socket.close()
    reactor.close()
  }
})

test('status says the same times again, also after a reload and after the end of an engine', async () => {
  const daemon = await Daemon.start()
  const timesOf = async (): Promise<readonly unknown[]> => {
    const [status] = (await ask(daemon, 'status', '--format', 'json')).stdout.split('\n')
    const { since, reloaded, engines } = JSON.parse(status!)
    return [since, reloaded, engines]
  }
  try {
    const [since] = await timesOf()
    process.kill(daemon.pid!, 'SIGHUP')
    await until('it has reloaded', async () => (await timesOf())[1] !== since && daemon.logged('serving') === 2)
    const [, reloaded] = await timesOf()
    process.kill(daemon.engine, 'SIGKILL')
    await until('another engine serves', async () => (await timesOf())[2] === 2)
    expect(await timesOf()).toEqual([since, reloaded, 2])
  } finally {
    await daemon.close()
  }
})

test('who may not read the state of Docker has no names of it, and no error', async () => {
  const module = new URL('../../../out/runtimes/engine-names.js', import.meta.url).href
  const asks = `import('${module}').then(({ openState, engineNamesLookup, engineStates }) =>
    console.log(openState('a', '/b'), engineNamesLookup()('a', '/b'), engineStates()('a', '/b')))`
  const script = `mount -t tmpfs -o size=1m none /var/lib && mkdir -m 700 /var/lib/docker && chown 1 /var/lib/docker
    exec setpriv --bounding-set=-dac_override,-dac_read_search sh -c 'ls /var/lib/docker 2>/dev/null || exec "$@"' sh "$@"`
  const done = await execute('unshare', ['--mount', 'sh', '-c', script, 'sh', process.execPath, '-e', asks])
  expect(done).toEqual({ status: 0, stdout: '[] undefined \n', stderr: '' })
})
