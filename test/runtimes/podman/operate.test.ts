import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Done, execute, until } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'

const NAME = `it-operate-${process.pid}`

/** A refused device, whose name is hostile, one that is made, an attribute that is served, and a mount that is left. */
const MORNING = `cd /tmp
caller mknod "$(printf 'a\\033[2Jb\\nc\\377"d')" 020666 1 1
caller mknod mem 020666 1 1
caller mknod "$(printf 'a\\033[2Jb\\nc\\377"d')" 020666 1 3
caller mknodat - mem 020666 1 1
caller mknod null 020666 1 3
mkdir d && caller setxattr d trusted.overlay.opaque y
caller setxattr d user.x z
caller mount d none nofs
sleep 600`

let machine: Machine
let podman: Podman
const feed = (): string => join(machine.directory, 'feed.sock')
const intercede = (...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, args[0]!, '--feed', feed(), ...args.slice(1)])
const json = async (...args: readonly string[]): Promise<Record<string, never>[]> => {
  const { status, stdout, stderr } = await intercede(...args)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return JSON.parse(stdout)
}
const events = async (...args: readonly string[]): Promise<Record<string, unknown>[]> => {
  const { stdout } = await intercede('events', '--no-follow', '--format', 'json', ...args)
  return stdout
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

beforeAll(async () => {
  machine = new Machine()
  await machine.serve()
  podman = await Podman.start(machine)
  const profile = await writeProfile(machine, 'profile.json', [
    ...['-c', 'mknod', '-c', 'setxattr', '-c', 'mount', '-c', 'mount.allowed=ext4', '--runtime', 'podman'],
    ...['--base', '/usr/share/containers/seccomp.json'],
  ])
  const options = ['--userns=auto', '--cap-add=MKNOD,SYS_ADMIN', `--security-opt=seccomp=${profile}`, '--name', NAME]
  machine.start(...(podman.command('run', ...USUAL, ...options, 'test', 'sh', '-c', MORNING) as [string, ...string[]]))
  await until(
    'the container has made its calls',
    async () => (await intercede('ps')).stdout.includes('fileSystemNot'),
    60,
  )
})
afterAll(async () => {
  await podman.close()
  await machine.close()
})

test('ps says who is served, with name and image, what it may, and what became of its calls', async () => {
  const { stdout, status } = await intercede('ps', '--wide')
  expect(status).toBe(0)
  expect(stdout.split('\n')[0]).toMatch(
    /^CONTAINER +RUNTIME +NAME +IMAGE +COMMAND +PID +KEYS +STATE +CALLS +DONE +LEFT +ERRORS/,
  )
  const [row] = await json('ps', '--format', 'json')
  expect(row).toMatchObject({ runtime: 'crun', name: NAME, keys: ['mknod', 'mount', 'setxattr'], state: 'served' })
  expect(row!.image).toContain('test')
  expect(row).toMatchObject({ done: 3, errors: 0 })
  expect(Number(row!.left)).toBeGreaterThanOrEqual(4)
  expect(Number(row!.calls)).toBe(3 + Number(row!.left))
  const templated = await intercede('ps', '--format', '{name} {done} {keys}')
  expect(templated.stdout).toBe(`${NAME} 3 mknod,mount,setxattr\n`)
})

test('inspect says where each key comes from, and everything by name, id and the beginning of the id', async () => {
  const [row] = await json('inspect', NAME, '--format', 'json')
  const id = String(row!.id)
  expect(row).toMatchObject({ keys: { mknod: { value: 'true', origin: 'metadata' }, bpf: { origin: 'default' } } })
  expect(row).toMatchObject({ idMaps: { uid: [[0, expect.any(Number), expect.any(Number)]] }, listeners: 1 })
  expect((row!.traps as unknown as string[]).includes('mknodat')).toBe(true)
  expect((await json('inspect', id.slice(0, 8), '--format', 'json'))[0]!.id).toBe(id)
  const { stdout } = await intercede('inspect', NAME)
  expect(stdout).toMatch(new RegExp(`^name +${NAME}$`, 'm'))
  expect(stdout).toMatch(/^mknod +true +metadata +the seccomp profile, and a new container$/m)
  expect(stdout).toContain('the device 1:1 is not allowed')
  // How near it is to what a container may have at most.
  expect(stdout).toMatch(/^listeners +1 of 256$/m)
  expect(stdout).toMatch(/^in flight +0 of 3$/m)
  expect(stdout).toMatch(/^kept for it +0 of 64$/m)
})

test('events have every call with its arguments, and why', async () => {
  const calls = (await events(NAME)).filter(({ type }) => type === 'call')
  const brief = calls.map(({ syscall, verdict, reason }) => [syscall, verdict, reason])
  expect(brief).toContainEqual(['mknod', 'left', 'deviceNotAllowed'])
  expect(brief).toContainEqual(['mknod', 'done', 'done'])
  expect(brief).toContainEqual(['setxattr', 'done', 'done'])
  const spelled = calls.map(({ call }) => call)
  expect(spelled).toContainEqual('mknod("null", S_IFCHR|0666, 1:3)')
  expect(spelled).toContainEqual('mknod("a\\033[2Jb\\012c\\377\\"d", S_IFCHR|0666, 1:3)')
  expect(spelled).toContainEqual(expect.stringMatching(/^mknodat\(AT_FDCWD, 0x[0-9a-f]+, S_IFCHR\|0666, 1:1\)$/))
  expect(spelled).toContainEqual(
    expect.stringMatching(/^setxattr\("d", "trusted\.overlay\.opaque", 0x[0-9a-f]+, 1, 0\)$/),
  )
  expect(calls.find(({ syscall }) => syscall === 'mount')).toMatchObject({
    call: expect.stringMatching(/^mount\("none", "d", "nofs", 0, (NULL|0x[0-9a-f]+)\)$/),
    reason: 'fileSystemNotAllowed',
  })
  expect(calls.every(({ container }) => /^[0-9a-f]{64}$/.test(String(container)))).toBe(true)
})

test('events are filtered, printed as strace does and by a template, and go on after a cursor', async () => {
  const strace = await intercede(
    'events',
    '--no-follow',
    '--format',
    'strace',
    '--filter',
    'verdict=done,syscall=mknod,call~null',
  )
  expect(strace.stdout).toMatch(
    /^\[[0-9a-f]{12} \(it-operate-\d+\)\] \[pid \d+\] \d\d:\d\d:\d\d\.\d{3} mknod\("null", S_IFCHR\|0666, 1:3\) = 0 <0\.\d{6}>\n$/,
  )
  const other = await intercede(
    'events',
    '--no-follow',
    '--format',
    '{syscall} {reason}',
    '--filter',
    'reason~^fileSystem',
  )
  expect(other.stdout).toBe('mount fileSystemNotAllowed\n')
  const all = (await events()).filter(({ type }) => type === 'call')
  const after = await events('--after', String(all.at(-3)!.cursor))
  expect(after.map(({ cursor }) => cursor)).toEqual(all.slice(-2).map(({ cursor }) => cursor))
  expect(await events('--since', '0s')).toEqual([])
  expect((await events('--tail', '2')).filter(({ type }) => type === 'call')).toHaveLength(2)
})

test('explain groups refusals and says what to change', async () => {
  const rows = await json('explain', '--format', 'json')
  const refused = rows.find(({ reason }) => reason === 'deviceNotAllowed')
  expect(refused).toMatchObject({ count: 2, verdict: 'left', name: NAME })
  expect(refused!.remedy).toContain('no key allows it')
  const { stdout } = await intercede('explain', NAME)
  expect(stdout).toMatch(
    /left to the kernel, 2 times, the first \d+[sm] ago, the last \d+[sm] ago \[deviceNotAllowed\]/,
  )
  expect(stdout).toContain(
    'what to do:  no key allows it, since it would give the container the memory of the host (/dev/mem)',
  )
  expect((await intercede('explain', 'lacksCapability')).stdout).toContain('what to do: ')
})

test('top says how often calls are made now, and how long they take', async () => {
  let isOver = false
  const looks = intercede('top', '--once', '--interval', '3', '--format', 'json').finally(() => {
    isOver = true
  })
  while (!isOver)
    await podman.run('exec', NAME, 'sh', '-c', 'for i in 1 2 3; do caller mknod /tmp/top$i 020666 1 1; done')
  const { stdout } = await looks
  expect(JSON.parse(stdout)).toContainEqual(
    expect.objectContaining({ container: expect.stringMatching(/^[0-9a-f]{64}$/), syscall: 'mknod', done: 0 }),
  )
  const { stdout: shown } = await intercede('top', '--once', '--interval', '0.1')
  expect(shown).toMatch(/^CONTAINER +CALL +CALLS\/S +DONE +LEFT +ERRORS +P50 +P99 +IN FLIGHT\n/)
})

test('the example of docs/guide/operating.md lists the containers', async () => {
  const page = readFileSync(new URL('../../../docs/guide/operating.md', import.meta.url), 'utf8')
  const [, example] = /```js\n([^`]*)```/.exec(page)!
  const index = new URL('../../../dist/index.js', import.meta.url).href
  const script = example!.replace("'intercede'", `'${index}'`).replaceAll('connect()', `connect('${feed()}')`)
  const { stdout } = await execute(process.execPath, ['--input-type=module', '-e', script])
  expect(stdout).toMatch(new RegExp(`^${NAME} \\d+ calls`, 'm'))
  expect(stdout).toContain('mknod("null", S_IFCHR|0666, 1:3) done')
})

test('nothing of a name that a container has chosen reaches a terminal as it is', async () => {
  const outputs = await Promise.all([
    ...['ps', 'explain'].map((command) => intercede(command)),
    ...['table', 'json', 'strace'].map((format) => intercede('events', '--no-follow', '--format', format)),
    intercede('inspect', NAME),
  ])
  for (const { stdout } of outputs) expect(stdout).toMatch(/^[\n\x20-\x7e]+$/)
})

test.each([
  { args: ['inspect', 'nobody'], status: 1, says: 'no container has that id or name' },
  { args: ['events', 'nobody'], status: 1, says: 'intercede ps --all' },
  { args: ['ps', '--format', '{nothing}'], status: 2, says: 'there is no field {nothing}' },
  { args: ['ps', '--format', 'wide'], status: 2, says: 'table, json, or a text' },
  { args: ['events', '--filter', 'color=red'], status: 2, says: 'there is no field "color"' },
  { args: ['inspect', ''], status: 1, says: 'no container has that id or name' },
  { args: ['events', '--filter', 'verdict'], status: 2, says: 'it has no operator' },
  { args: ['events', '--filter', 'verdict=denied'], status: 2, says: 'it may be done, left, error, gone' },
  { args: ['events', '--filter', 'reason!=nothing'], status: 2, says: 'there is none of that name' },
  { args: ['events', '--filter', 'errno=EPERMM'], status: 2, says: 'there is none of that name' },
  { args: ['events', '--since', '10'], status: 2, says: 'how long ago' },
  { args: ['events', '--filter', 'reason~('], status: 2, says: 'Invalid regular expression' },
  { args: ['events', '--after', 'yesterday'], status: 2, says: 'that is no cursor' },
  { args: ['events', '--since', 'noon'], status: 2, says: 'how long ago' },
])('$args ends with $status and one sentence', async ({ args, status, says }) => {
  const done = await intercede(...args)
  expect(done).toMatchObject({ status, stdout: '' })
  expect(done.stderr).toMatch(/^intercede: Cannot .*\n$/)
  expect(done.stderr).toContain(says)
})

test('a socket that is missing, of another kind, or for others alone is one sentence with a remedy', async () => {
  const at = (path: string): Promise<Done> => execute(process.execPath, [CLI, 'ps', '--feed', path])
  expect(await at('/nowhere/feed.sock')).toMatchObject({
    status: 125,
    stderr: expect.stringContaining('no such socket'),
  })
  expect(await at(machine.socket)).toMatchObject({ status: 125, stderr: expect.stringContaining('of another kind') })
})

test('events go on over the end of an engine and say so', { timeout: 60_000 }, async () => {
  const child = spawn(process.execPath, [CLI, 'events', '--feed', feed(), '--format', 'json'])
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  try {
    await until('it shows what is there', () => said.includes('"type":"call"'))
    const engine = machine.log.findLast(({ message }) => message === 'serving')!.engine as number
    process.kill(engine, 'SIGKILL')
    await until('it says that the engine has ended', () => said.includes('"type":"engineEnded"'))
    await until('it says that another one serves', () => said.includes('"type":"engineStarted"'))
    const before = (await json('ps', '--format', 'json'))[0]!
    expect(Number(before.done)).toBe(3)
    await podman.run('exec', NAME, 'sh', '-c', 'caller mknod /tmp/later 020666 1 3')
    await until('it shows a later call', () => said.includes('mknod(\\\\\\"/tmp/later') || said.includes('/tmp/later'))
  } finally {
    child.kill('SIGTERM')
  }
})

test('a container that has ended is listed by ps --all, with its counts', { timeout: 60_000 }, async () => {
  await podman.run('kill', NAME)
  await until('it is gone', async () => (await intercede('ps')).stdout.trim().split('\n').length === 1, 30)
  const { stdout, stderr } = await intercede('ps', '--all', '--format', 'json')
  expect(stderr).toMatch(/^intercede: The daemon keeps no history: .* are not known\n$/)
  const [row] = JSON.parse(stdout)
  expect(row).toMatchObject({ state: 'ended', done: 4 })
  expect(row.lastRefusal).toBeDefined()
  const [about] = await json('inspect', String(row.id), '--format', 'json')
  expect(about!.ended).toMatch(/^20.*Z$/)
})
