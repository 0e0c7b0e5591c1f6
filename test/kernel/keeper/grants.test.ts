import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { type Done, execute, USERNS, until } from '../../support/host.ts'
import { byUser } from '../../support/user.ts'

const OFF = ['--metadata', 'security.syscalls.intercept.mknod=false']
const SHORT = '5288d75d3d2f'
const VICTIM = SHORT.padEnd(64, 'a')
const TENANT = 'b'.repeat(64)

let daemon: Daemon
const makers: Maker[] = []
const children: ChildProcess[] = []
const feed = (): string => join(daemon.directory, 'feed.sock')
const intercede = (command: string, ...args: readonly string[]): Promise<Done> =>
  execute(process.execPath, [CLI, command, '--feed', feed(), ...args])

/** Starts a container that makes some calls, and stays. */
async function start(id: string, metadata: string, script: string, more: readonly string[] = []): Promise<void> {
  const own = ['--userns', USERNS, '--pidns', '--await-agent', '--mounts', '--id', id, '--metadata', metadata]
  const options = [...own, ...more]
  const words = [daemon.socket, ...options, '--', 'sh', '-c', `{ ${script}; } >&2; echo done; read end`]
  const child = spawn(fixture('filtered'), words, { stdio: ['pipe', 'pipe', 'ignore'] })
  children.push(child)
  await new Promise((resolve) => child.stdout.once('data', resolve))
}

const explained = async (id: string): Promise<readonly Record<string, string>[]> => {
  const { stdout } = await intercede('explain', id, '--format', 'json')
  return JSON.parse(stdout)
}

beforeAll(async () => {
  daemon = await Daemon.start()
  const named = ['--annotation', `io.kubernetes.cri.container-name=${SHORT}`]
  makers.push(new Maker(daemon, [...OFF, '--id', VICTIM]), new Maker(daemon, [...OFF, '--id', TENANT, ...named]))
  for (const maker of makers) expect(await maker.make()).toBe('Operation not permitted')
})
afterAll(async () => {
  for (const maker of makers) maker.end()
  for (const child of children) child.stdin!.end()
  await daemon.close()
})

test('a name that another container has chosen steals no order', async () => {
  const refused = await intercede('set', SHORT, 'mknod')
  expect(refused).toEqual({
    ...{ status: 125, stdout: '' },
    stderr: `intercede: Cannot tell which container "${SHORT}" is: it is the name of ${TENANT} and the beginning of ${VICTIM}; give the whole id\n`,
  })
  const { stdout } = await intercede('explain', '--format', '{set}')
  expect(stdout.trim().split('\n').sort()).toEqual([
    `intercede set --feed ${feed()} ${VICTIM} mknod=true`,
    `intercede set --feed ${feed()} ${TENANT.slice(0, 12)} mknod=true`,
  ])
  const done = await intercede('set', VICTIM, 'mknod')
  expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(`^${SHORT}\n  security.*mknod: true`) })
  expect(await makers[0]!.make()).toBe('ok')
  expect(await makers[1]!.make()).toBe('Operation not permitted')
  const unset = await intercede('set', TENANT, '--unset', 'mknod')
  expect(unset).toMatchObject({ status: 0, stdout: expect.stringContaining('That was so already.') })
  expect(await makers[0]!.make()).toBe('ok')
  const other = await intercede('set', TENANT, 'mknod=false')
  expect(other.stdout).toMatch(new RegExp(`^${TENANT.slice(0, 12)} \\(${SHORT}\\)\n`))
})

test('explain says what lasts beside what was set: the profile, and the configuration that the daemon reads', async () => {
  daemon.configure('profiles: { build: { mknod: true } }')
  process.kill(daemon.pid!, 'SIGHUP')
  await until('it has read its configuration', () => daemon.logged('serving') > 1, 30)
  await start('build', 'profile=build', 'mknod x c 10 200')
  const line =
    /^"security\.syscalls\.intercept\.mknod\.devices: c:10:200" under .* in \/tmp\/intercede-config-\S+\/config\.yaml, then "intercede reload --feed \/\S+\/feed\.sock"/
  const [before] = await explained('build')
  expect(before).toMatchObject({
    set: `intercede set --feed ${feed()} build mknod.devices=c:10:200`,
    forGood: expect.stringMatching(line),
  })
  expect((await intercede('set', 'build', 'mknod.devices=c:10:200')).status).toBe(0)
  const [after] = await explained('build')
  expect(after).toMatchObject({
    ...{ now: 'nothing: it is allowed by now', remedy: 'nothing: it is allowed by now' },
    forGood: expect.stringMatching(line),
  })
  expect(after!.forGood).toContain('under profiles: build: in')
  expect(await intercede('reload')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^0 of \d+ containers changed/),
  })
})

test('explain names --unset for a key that set turned off, and takes nothing back that it allowed', async () => {
  const maker = new Maker(daemon, ['--id', 'kb', '--metadata', 'profile=build'])
  makers.push(maker)
  await intercede('set', 'kb', 'mknod=false')
  expect(await maker.make()).toBe('Operation not permitted')
  const [{ remedy, set, forGood } = {}] = await explained('kb')
  const off = 'turn it on: it is off by "intercede set"'
  expect({ remedy, set }).toEqual({ remedy: off, set: `intercede set --feed ${feed()} kb mknod=true` })
  expect(forGood).toBe(`intercede set --feed ${feed()} kb --unset mknod`)
  await intercede('set', 'kb', '--unset', 'mknod')
  expect(await maker.make()).toBe('ok')
  await start('two', 'profile=build', 'mknod x c 10 200; mknod y c 10 229')
  const { stdout } = await intercede('explain', 'two')
  for (const other of ['c:10:200', 'c:10:229'])
    expect(stdout).toContain(
      `\n  note:  the container also asks for ${other} of mknod.devices: each command replaces the value, so put all that you allow into one\n`,
    )
  expect((await intercede('explain', 'build')).stdout).not.toContain('note:')
  // The line for good of each would replace that of the other.
  await start('three', 'profile=build', 'mknod z c 10 232')
  const other = `other values of mknod.devices are wanted in its profile by`
  const own = 'the container also asks for c:10:229 of mknod.devices'
  const [all, three] = [(await intercede('explain')).stdout, (await intercede('explain', 'three')).stdout]
  expect(three).toMatch(new RegExp(`note:  ${other} two: each line replaces`))
  expect(three.match(/note:/g)).toHaveLength(1)
  expect((await explained('three'))[0]!.note).toContain(`${other} two`)
  const two = (await intercede('explain', 'two')).stdout
  expect(two).toMatch(new RegExp(`note:  ${own}; ${other} three: each command replaces`))
  expect(all).toMatch(new RegExp(`note:  ${other} two: each line replaces`))
  expect(all).toMatch(new RegExp(`note:  ${own}; ${other} three: each command replaces`))
})

test('the profile of a container is the one that its annotation chose: explain changes that', async () => {
  daemon.configure('profiles: { build: { mknod: true }, wide: { mknod: true } }\nannotations: { profiles: [wide] }')
  const before = daemon.logged('serving')
  process.kill(daemon.pid!, 'SIGHUP')
  await until('it has read its configuration', () => daemon.logged('serving') > before, 30)
  const chosen = ['--annotation', 'security.syscalls.intercept.profile=wide']
  await start('chosen', 'profile=build', 'mknod x c 10 200', chosen)
  expect((await intercede('inspect', 'chosen', '--format', '{profile}')).stdout).toBe('wide\n')
  const [{ forGood } = {}] = await explained('chosen')
  expect(forGood).toMatch(/mknod\.devices: c:10:200" under profiles: wide: in /)
  expect((await intercede('explain')).stdout).not.toMatch(/ wide: in .*\n.*\n {2}note: {2}.*others of its profile/)
})

test('a policy that could not be used is repaired for explain, and inspect keeps what was set meanwhile', async () => {
  const config = 'profiles: { build: { mknod: true } }'
  const line = async (): Promise<string | undefined> =>
    (await intercede('inspect', 'kb')).stdout.split('\n').find((each) => each.startsWith('mknod.devices'))
  const reload = (...words: readonly string[]): Promise<Done> =>
    execute(process.execPath, [CLI, 'reload', '--control', join(daemon.directory, 'control.sock'), ...words])
  await intercede('set', 'kb', 'mknod.devices=c:10:200')
  const ceiling = 'sched_setscheduler.max_priority'
  daemon.configure(`profiles: { buidl: { mknod: true } }\nceiling: { ${ceiling}: 20 }`)
  expect(await reload('--force')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining(
      `${ceiling}: 20 (default asks for 49, the ceiling is 20), instead of 49 (default)\n`,
    ),
  })
  expect(await line()).toMatch(/ - +default; c:10:200, set by root, \d+s ago, returns when the policy is valid again /)
  expect(await makers.at(-1)!.make()).toBe('Operation not permitted')
  const remedy = async (): Promise<string | undefined> =>
    (await explained('kb')).find(({ reason }) => reason === 'policyInvalid')?.remedy
  const correct = 'correct the metadata and restart the container'
  expect(await remedy()).toContain(correct)
  // What its keys lack now is not what they lack once the policy is valid.
  const [{ reason, remedy: first, set, forGood, allows } = {}] = await explained('build')
  expect({ reason, set, allows }).toEqual({ reason: 'deviceNotAllowed' })
  expect(first).toContain(correct)
  expect(forGood).toMatch(
    /^correct its policy first, in \S+\.yaml, then "intercede reload .*: its policy cannot be used: .*"build" at line 1/,
  )
  daemon.configure(config)
  expect(await reload()).toMatchObject({ status: 0 })
  expect(await makers.at(-1)!.make()).toBe('ok')
  expect(await remedy()).toBe('nothing: the policy is valid by now')
  expect(await line()).toMatch(/ c:10:200 +set by root, \d+s ago /)
  // A time is the same in a template as in JSON.
  const { stdout } = await intercede('inspect', 'kb', '--format', '{set}')
  expect(stdout).toMatch(/"time":"20\d\d-[^"]+Z"\}\n$/)
})

test('explain of a reason that is the name of a container says both', async () => {
  const maker = new Maker(daemon, [...OFF, '--id', 'gone'])
  makers.push(maker)
  await maker.make()
  expect(await intercede('explain', 'gone')).toEqual({
    ...{ status: 0, stdout: expect.stringMatching(/^gone: mknod.*\n {2}left to the kernel.*\[keyOff\]/) },
    stderr: 'intercede: "gone" is also a reason: the caller died or was interrupted before the answer\n',
  })
  expect(await intercede('explain', 'fault')).toMatchObject({ stdout: expect.stringMatching(/^fault: /), stderr: '' })
})

test('explain offers no list that a container has spliced, and says what the kernel meant', async () => {
  const caller = fixture('caller')
  const mounts = ['x,btrfs', '', 'ext9', 'EXT4'].map((type) => `${caller} mount /proc /etc/passwd '${type}'`)
  const node = `${caller} mknod ${join(daemon.directory, 'node')} 020666 1 3`
  const slash = `${caller} mknod ${join(daemon.directory, 'new/')} 020666 1 3`
  const keys = ['mknod=true', 'mount=true', 'mount.allowed=ext4'].map((key) => `security.syscalls.intercept.${key}`)
  await start('mounts', keys.join('\n'), [...mounts, slash, node, node, node].join('; '))
  const rows = await explained('mounts')
  const refused = rows.filter(({ reason }) => reason === 'fileSystemNotAllowed')
  expect(refused.length).toBe(3)
  for (const { set } of refused) expect(set).toBeUndefined()
  expect(refused.find(({ call }) => call!.includes('"ext9"'))?.remedy).toBe(
    'mount it by FUSE: this kernel has no file system "ext9"',
  )
  expect(rows.find(({ call }) => call!.includes('"EXT4"'))).toMatchObject({
    ...{ reason: 'fileSystemMiswritten', remedy: 'write the name in small letters' },
  })
  const answered = rows.filter(({ reason }) => reason === 'kernelAnswered')
  expect(answered.map(({ errno, count }) => ({ errno, count }))).toEqual([
    { errno: 'EEXIST', count: 2 },
    { errno: 'ENOENT', count: 1 },
  ])
  expect(answered[0]!.remedy).toContain('the kernel itself answered EEXIST, usually because the name already exists')
  // Only where there are errors, their number has a column.
  expect((await intercede('ps')).stdout).toMatch(/^NAME +STATE +DONE +LEFT +ERRORS +LAST REFUSAL\n/)
})

test('set says once what cannot work since a change, and again for the same key alone', async () => {
  const idle = 'Cannot work: bpf does nothing without bpf.devices'
  expect((await intercede('set', TENANT, 'bpf')).stderr).toContain(idle)
  expect((await intercede('set', TENANT, 'mknod')).stderr).not.toContain(idle)
  expect((await intercede('set', TENANT, 'bpf')).stderr).toContain(idle)
  expect((await intercede('inspect', TENANT)).stdout).toContain('bpf does nothing without bpf.devices')
  expect((await intercede('set', TENANT, '--unset', 'bpf')).stderr).not.toContain(idle)
})

test('set says that an option does nothing while an annotation keeps its call off', async () => {
  const off = ['--annotation', 'security.syscalls.intercept.mknod=false']
  makers.push(new Maker(daemon, ['--id', 'lowered', ...off]))
  expect(await makers.at(-1)!.make()).toBe('Operation not permitted')
  const idle = 'Cannot work: mknod.devices does nothing without mknod=true\n'
  expect((await intercede('set', 'lowered', 'mknod.devices=c:10:200')).stderr).toContain(idle)
  expect((await intercede('set', 'lowered', 'mknod')).stderr).not.toContain(idle)
})

test('inspect shows the annotations that are ignored, and why', async () => {
  const key = 'security.syscalls.intercept'
  const ignored = [`${key}.mkond=true`, `${key}.sysinfo=true`]
  const maker = new Maker(daemon, ['--id', 'mistyped', ...ignored.flatMap((each) => ['--annotation', each])])
  makers.push(maker)
  await maker.make()
  const { stdout } = await intercede('inspect', 'mistyped')
  expect(stdout).toMatch(/^ignored annotation: \S+mkond=true: .*did you mean .*mknod/m)
  expect(stdout).toMatch(/^ignored annotation: \S+sysinfo=true: \S.*/m)
  // A call that such an annotation would allow says so.
  await start('asks', 'mknod', 'mknod x c 10 200', ['--annotation', `${key}.mknod.devices=c:10:200`])
  expect((await intercede('explain', 'asks')).stdout).toMatch(
    /^ {2}note: {2}its annotation \S+mknod\.devices=c:10:200 is ignored: an annotation may only lower this key/m,
  )
  await intercede('set', 'mistyped', 'sysinfo')
  const [after] = JSON.parse((await intercede('inspect', 'mistyped', '--format', 'json')).stdout)
  expect(after.ignored.map(({ key: of, value }: { key: string; value: string }) => `${of}=${value}`)).toEqual(
    ignored.toReversed(),
  )
})

test('explain of a reason keeps to the format', async () => {
  const explain = async (format: string): Promise<string> =>
    (await execute(process.execPath, [CLI, 'explain', 'lacksCapability', '--format', format])).stdout
  expect(JSON.parse(await explain('json'))).toEqual([
    { reason: 'lacksCapability', says: expect.stringContaining('the caller lacks'), remedy: expect.anything() },
  ])
  expect(await explain('{reason}: {says}')).toMatch(/^lacksCapability: the caller lacks .*\n$/)
})

test.each([TENANT, 'nobody'])('set of %s says first that the user may not', async (word) => {
  expect(await execute('unshare', byUser('set', '--feed', feed(), word, 'mknod'))).toEqual({
    ...{ status: 125, stdout: '' },
    stderr: `intercede: Cannot give orders at "${join(daemon.directory, 'control.sock')}": only root of the host may; use sudo\n`,
  })
})

test.each([
  ['mknod.devices', 'x'],
  ['mknod', 'x'],
  ['mount.allowed', '.'],
  ['y', 'x'],
])('set %s to a long value quotes little of it', async (key, letter) => {
  const long = letter.repeat(100_000)
  for (const words of [
    [TENANT, `${key}=${long}`],
    [TENANT, `${long}=true`],
    [long, 'mknod'],
  ]) {
    const { status, stderr } = await intercede('set', ...words)
    expect(status).toBe(words[0] === long ? 1 : 2)
    expect(stderr.length).toBeLessThan(600)
  }
})

/** Of a daemon of another user it has none: test/attacks/bug-report.test.ts. */
test('doctor --bundle has the configuration that the daemon reads', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'intercede-bundle-'))
  const bundle = async (name: string): Promise<string> => {
    const archive = join(directory, name)
    await intercede('doctor', '--bundle', archive)
    return (await execute('tar', ['-x', '-O', '-f', archive, 'intercede/config.yaml'])).stdout
  }
  try {
    expect(await bundle('own.tar')).toBe('profiles: { build: { mknod: true } }')
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('inspect says once', async () => {
  const { stdout } = await intercede('inspect', 'build')
  expect(stdout).toMatch(/^ {2}left to the kernel once, deviceNotAllowed: /m)
})
