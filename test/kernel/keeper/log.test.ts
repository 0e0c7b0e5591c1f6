import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { CLI, Daemon, Maker, OF_CRUN } from '../../support/daemon.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, directory, execute, USERNS, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const KEY = 'security.syscalls.intercept'
/** The source of a key. */
const one = { origin: 'profile one' }
const START_S = 60

async function daemon(config = '', within: readonly string[] = []): Promise<Daemon> {
  const own = await Daemon.start(config, CLI, within)
  onTestFinished(() => own.close())
  return own
}

/** Runs a script in a container of its own, to its end. */
const run = ({ socket }: Daemon, options: readonly string[], script: string) =>
  execute(fixture('filtered'), [
    ...[socket, '--userns', USERNS, '--pidns', '--await-agent', '--metadata', `${KEY}.mknod=true`, ...options],
    ...['--', 'sh', '-c', script],
  ])

const linesAbout = (own: Daemon, id: string, message: string) =>
  own.log.filter((line) => line.container === id && line.message === message)

const NOISY = 'i=0; while [ $i -lt 600 ]; do mknod /nowhere/n c 10 $((300 + i)) 2>&1; i=$((i + 1)); done | wc -l'

async function expectAll(own: Daemon, id: string): Promise<void> {
  await until('its end is logged', () => linesAbout(own, id, 'container ended').length === 1)
  const calls = linesAbout(own, id, 'call')
  const counts = linesAbout(own, id, 'calls without a line of their own')
  const counted = counts.flatMap(({ leftOut }) => Object.values(leftOut as Record<string, number>))
  expect(counts.every(({ level }) => level === 'notice')).toBe(true)
  expect(calls.length).toBeLessThanOrEqual(512)
  expect(calls.length + counted.reduce((sum, each) => sum + each, 0)).toBe(600)
}

test('a container that makes calls of 600 kinds: each has a line, or is in the count', {
  timeout: 120_000,
}, async () => {
  const own = await daemon()
  expect((await run(own, ['--id', 'noisy'], NOISY)).stdout.trim()).toBe('600')
  await expectAll(own, 'noisy')
})

test('no line is lost or torn while nobody reads the log', { timeout: 120_000 }, async () => {
  const own = await daemon()
  const ids = ['one', 'two', 'three', 'four']
  await own.unheard(async () => {
    for (const id of ids) expect((await run(own, ['--id', id], NOISY)).stdout.trim()).toBe('600')
  })
  for (const id of ids) await expectAll(own, id)
  expect(own.said.filter((line) => line !== '' && !/^\{.*\}$/.test(line))).toEqual([])
})

test('a call whose key is off names the key, and who switched it off', { timeout: 120_000 }, async () => {
  const own = await daemon(`default: { ${KEY}.mknod: true }`)
  const off = async (id: string, options: readonly string[]) => {
    const { stdout } = await run(own, ['--id', id, ...options], 'mknod /nowhere/n c 1 3 2>&1')
    expect(stdout).toMatch(/Operation not permitted|No such file/)
    await until('the call is logged', () => linesAbout(own, id, 'call').length > 0)
    return linesAbout(own, id, 'call')[0]
  }
  const says = `the key ${KEY}.mknod is off for this container`
  const line = { level: 'notice', reason: 'keyOff', says }
  expect(await off('author', ['--annotation', `${KEY}.mknod=no`])).toMatchObject({
    ...line,
    setTo: 'false (annotation)',
  })
  expect(await off('admin', ['--metadata', `${KEY}.mknod=false`])).toMatchObject({ ...line, setTo: 'false (metadata)' })
  // Mistyped: what was meant can only have been less.
  expect(await off('typo', ['--annotation', `${KEY}.mknod=maybe`])).toMatchObject({
    ...line,
    setTo: 'false (annotation that cannot be read)',
  })
  expect(linesAbout(own, 'typo', 'container')).toMatchObject([
    { lowered: [{ key: `${KEY}.mknod`, value: 'maybe', why: expect.stringContaining('"maybe": not a boolean') }] },
  ])
})

test('a reload says of each container what has changed, and nothing of the others', { timeout: 120_000 }, async () => {
  const own = await daemon(`profiles: { one: { mknod: true } }`)
  const [changed, same] = [
    new Maker(own, ['--id', 'changed', '--metadata', 'profile=one']),
    new Maker(own, ['--id', 'same']),
  ]
  try {
    expect([await changed.make(), await same.make()]).toEqual(['ok', 'ok'])
    const reload = async (config: string, served: number): Promise<void> => {
      own.configure(config)
      process.kill(own.pid!, 'SIGHUP')
      await until('it serves again', () => own.logged('serving') === served, START_S)
    }
    await reload("profiles: { one: { mknod: false, mknod.devices: 'c:10:229' } }", 2)
    expect(await changed.make()).toBe('Operation not permitted')
    expect(await same.make()).toBe('ok')
    expect(linesAbout(own, 'changed', 'container goes on')).toMatchObject([
      {
        level: 'notice',
        changed: {
          [`${KEY}.mknod`]: { was: { value: 'true', ...one }, is: { value: 'false', ...one } },
          [`${KEY}.mknod.devices`]: { was: { value: '', origin: 'default' }, is: { value: 'c:10:229', ...one } },
        },
      },
    ])
    // It is compared with what held last.
    await reload("profiles: { one: { mknod: true, mknod.devices: 'c:10:229' } }", 3)
    expect(linesAbout(own, 'changed', 'container goes on')[1]!.changed).toEqual({
      [`${KEY}.mknod`]: { was: { value: 'false', ...one }, is: { value: 'true', ...one } },
    })
    expect(linesAbout(own, 'same', 'container goes on')).toMatchObject([{ level: 'info' }, { level: 'info' }])
    expect(linesAbout(own, 'same', 'container goes on').filter((line) => 'changed' in line)).toEqual([])
  } finally {
    changed.end()
    same.end()
  }
})

test('the start says nothing of a key whose call the metadata of a container may have', {
  timeout: 120_000,
}, async () => {
  const own = await daemon(`default: { mknod.devices: 'c:10:229' }`)
  await run(own, ['--id', 'whole'], 'sleep 1')
  await until('the container is logged', () => linesAbout(own, 'whole', 'container').length === 1)
  expect(own.said.filter((line) => line.includes('does nothing without'))).toEqual([])
  expect(linesAbout(own, 'whole', 'container')).toMatchObject([{ level: 'info' }])
  await run(own, ['--id', 'part', '--metadata', `${KEY}.mount=true`], 'sleep 1')
  await until('the container is logged', () => linesAbout(own, 'part', 'container').length === 1)
  expect(linesAbout(own, 'part', 'container')).toMatchObject([
    { level: 'warn', cannot: ['mount does nothing without mount.allowed or mount.fuse'] },
  ])
})

/** Tells the program that its standard error is the journal, as systemd does; the journal of this machine is hidden. */
const ALONE = '[ ! -d /run/systemd/journal ] || mount -t tmpfs none /run/systemd/journal'
const AS_STREAM = `${ALONE}; JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"`
const STREAM = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', AS_STREAM, 'sh']
const OTHER = ['env', 'JOURNAL_STREAM=1:1']

test('each line for a journal that has no socket begins with its priority, also after a reload', {
  timeout: 120_000,
}, async () => {
  const own = await daemon('', STREAM)
  process.kill(own.pid!, 'SIGHUP')
  await until('it serves again', () => own.logged('serving') === 2, START_S)
  await run(own, ['--id', 'refused'], 'mknod /nowhere/n c 1 1')
  await until('the call is logged', () => linesAbout(own, 'refused', 'call').length > 0)
  const lines = own.said.filter((line) => line !== '')
  expect(lines.filter((line) => !/^<[3-7]>\{.*\}$/.test(line))).toEqual([])
  expect(lines.find((line) => line.includes('"reason":"deviceNotAllowed"'))).toMatch(/^<5>\{.*"level":"notice"/)
  expect(lines.find((line) => line.includes('"message":"serving"'))).toMatch(/^<6>/)
})

test('no line begins with its priority where standard error is not the journal', { timeout: 120_000 }, async () => {
  const own = await daemon('', OTHER)
  expect(own.said[0]).toMatch(/^\{/)
})

const JOURNALD = '/lib/systemd/systemd-journald'
const without = missing('systemd-cat', 'journalctl') ?? (existsSync(JOURNALD) ? undefined : 'no systemd-journald')
/** A journal that leaves the messages and the audit of the kernel alone. */
const OWN_JOURNAL = '[Journal]\nStorage=volatile\nAudit=\nReadKMsg=no\n'
/** Starts the journal $1, and in its mount namespace the daemon: $2 $3, with socket and configuration in $4. */
const IN_JOURNAL = `set -e
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d
printf "$5" >/run/systemd/journald.conf.d/own.conf
"$1" >/dev/null 2>&1 &
journald=$!
until [ -S /run/systemd/journal/stdout ]; do sleep 0.05; done
systemd-cat --identifier=it "$2" "$3" serve --socket "$4/oci.sock" --config "$4/config.yaml" &
daemon=$!
read -r line
# The call is answered before its record is written.
until journalctl --sync && journalctl --identifier=intercede --output=json | grep -q deviceNotAllowed; do sleep 0.1; done
kill $daemon
wait $daemon || :
journalctl --sync || :
journalctl --identifier=intercede --priority=notice --output=json
kill $journald`

test.skipIf(without)(
  withReason('journalctl -p notice shows what was refused, and not what was done', without),
  { timeout: 120_000 },
  async () => {
    const place = mkdtempSync(join(tmpdir(), 'intercede-journal-'))
    onTestFinished(() => rmSync(place, { recursive: true }))
    chmodSync(place, 0o755)
    writeFileSync(join(place, 'config.yaml'), '')
    const own = directory(join(place, 'own'), BASE, 0o755)
    const socket = join(place, 'oci.sock')
    const words = [JOURNALD, process.execPath, CLI, place, OWN_JOURNAL]
    const child = spawn('unshare', ['--mount', 'sh', '-c', IN_JOURNAL, 'sh', ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const over = once(child, 'exit')
    await until('the daemon listens', () => existsSync(socket), START_S)
    await execute(fixture('filtered'), [
      ...[socket, '--userns', USERNS, '--pidns', '--await-agent', '--metadata', `${KEY}.mknod=true`],
      ...['--', 'sh', '-c', `mknod ${own}/n c 1 3; mknod ${own}/m c 1 1; true`],
    ])
    child.stdin.end('\n')
    await over
    const lines = said
      .split('\n')
      .filter((line) => line.startsWith('{') && !OF_CRUN.test(line))
      .map((line) => JSON.parse(line))
    expect(lines).toMatchObject([{ PRIORITY: '5', REASON: 'deviceNotAllowed', SYSCALL: 'mknodat', VERDICT: 'left' }])
  },
)

test.each([
  { version: '1.21', says: 1 },
  { version: '1.24', says: 0 },
])('serve says at its start what crun $version gives away: $says lines', async ({ version, says }) => {
  const tools = mkdtempSync(join(tmpdir(), 'intercede-tools-'))
  writeFileSync(join(tools, 'crun'), `#!/bin/sh\necho "crun version ${version}"; touch "${tools}/asked"\n`, {
    mode: 0o755,
  })
  const daemon = new Daemon('', { PATH: `${tools}:${process.env.PATH}` })
  try {
    await until('it serves', () => daemon.logged('serving') === 1, START_S)
    await until('crun was asked', () => existsSync(join(tools, 'asked')), 10)
    await daemon.reload()
    const said = (): readonly string[] => daemon.said.filter((line) => OF_CRUN.test(line))
    await until('it has said so', () => said().length === says, 10)
    const lines = said().map((line) => JSON.parse(line))
    const message = expect.stringMatching(/^crun 1\.21 keeps the null device of the host: it gives/)
    expect(lines).toMatchObject(Array(says).fill({ level: 'warn', message, remedy: 'install crun 1.24 or later' }))
  } finally {
    await daemon.close()
    rmSync(tools, { recursive: true })
  }
})
