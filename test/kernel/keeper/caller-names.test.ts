// Who makes a call: the name that a hostile program has given itself, and its number, in all that shows calls.
import { type ExecFileException, execFile } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { CLI, Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { USERNS, until } from '../../support/host.ts'
import { lacks, withReason } from '../../support/skipped.ts'

const NAME = '\\x1b[31m\\n\\xff\\\\a\\"<'
/** As strace(1) shows it. */
const SHOWN = '\\033[31m\\012\\377\\\\a"<'
/** Gives itself the name, says its number, makes one node that is done and one that is left by its registers alone. */
const PROGRAM = (path: string): string => `
import os
open('/proc/self/comm', 'wb').write(b"${NAME}")
for minor in 3, 1:
    try:
        os.mknod('${path}', 0o20666, os.makedev(1, minor))
        os.unlink('${path}')
    except OSError:
        pass
print(os.getpid())`

let daemon: Daemon
let pid = 0
beforeAll(async () => {
  daemon = await Daemon.start()
  const metadata = 'security.syscalls.intercept.mknod=true'
  const container = ['--userns', USERNS, '--pidns', '--await-agent', '--id', 'hostile', '--metadata', metadata]
  const program = [
    'sh',
    '-c',
    'mount -t proc proc /proc; python3 -c "$0"; sleep 1000',
    PROGRAM(join(daemon.directory, 'node')),
  ]
  const child = execFile(fixture('filtered'), [daemon.socket, ...container, '--', 'unshare', '-m', ...program])
  let said = ''
  child.stdout!.on('data', (chunk: string) => (said += chunk))
  stop = () => child.kill('SIGKILL')
  await until('it has called', () => said.endsWith('\n'), 20)
  pid = Number(said)
  await until('both are logged', () => daemon.logged('call') >= 2)
})
let stop = (): unknown => undefined
afterAll(async () => {
  stop()
  await daemon?.close()
})

function intercede(...words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const [command = '', ...rest] = words
    execFile(
      process.execPath,
      [CLI, command, '--feed', join(daemon.directory, 'feed.sock'), ...rest],
      (error: ExecFileException | null, stdout) => (error ? reject(error) : resolve(stdout)),
    )
  })
}

/** Without this feature records have no number of the caller. */
const numberless = lacks('pidTranslation')

test.skipIf(numberless)(
  withReason(
    'events, explain, log and api say who made a call that was done, and one that was left by its registers',
    numberless,
  ),
  async () => {
    expect(pid).toBeGreaterThan(1)
    const events = (await intercede('events', '--no-follow', '--format', 'json', '--filter', 'type=call')).trimEnd()
    const rows = events.split('\n').map((line) => JSON.parse(line))
    // Two threads may have answered the calls.
    rows.sort((one, other) => one.verdict.localeCompare(other.verdict))
    expect(rows).toMatchObject([
      { verdict: 'done', comm: SHOWN, pid },
      { verdict: 'left', comm: SHOWN, pid },
    ])
    const [refusal] = JSON.parse(await intercede('explain', '--format', 'json'))
    expect(refusal).toMatchObject({ comm: SHOWN, pid })
    const logged = daemon.log.filter(({ message }) => message === 'call')
    expect(logged).toMatchObject([
      { comm: SHOWN, pid },
      { comm: SHOWN, pid },
    ])
    const api = await Api.start(join(daemon.directory, 'feed.sock'))
    try {
      const { text } = await api.ask('/v1/events?follow=false')
      expect(text.split('\n').filter((line) => line.includes(JSON.stringify(SHOWN)))).toHaveLength(2)
      expect(JSON.parse((await api.ask('/v1/refusals')).text)).toMatchObject([{ comm: SHOWN, pid }])
    } finally {
      await api.close()
    }
  },
)

/** As lines show it whose fields a comma and blanks separate. */
const QUOTED = `"${SHOWN.replaceAll('"', '\\"')}"`

test.skipIf(numberless)(
  withReason('for people the name and number stand beside the call, and nothing raw reaches a terminal', numberless),
  async () => {
    const table = await intercede('events', '--no-follow')
    expect(table).toContain(`  by ${QUOTED}, pid ${pid}`)
    expect(await intercede('explain', 'hostile')).toContain(`1:1)  by ${QUOTED}, pid ${pid}\n`)
    expect(await intercede('events', '--no-follow', '--format', 'strace')).toContain(`[hostile] [pid ${pid}] `)
    expect(await intercede('events', '--no-follow', '--format', '{comm} {pid}')).toContain(`${SHOWN} ${pid}\n`)
    for (const words of [['events', '--no-follow'], ['explain'], ['ps'], ['inspect', 'hostile'], ['metrics']])
      expect(await intercede(...words)).toMatch(/^[\x20-\x7e\n]*$/)
    expect(daemon.said.join('\n')).toMatch(/^[\x20-\x7e\n]*$/)
  },
)

test.skipIf(numberless)(
  withReason('events are filtered by the name and the number of the caller', numberless),
  async () => {
    const count = async (filter: string): Promise<number> =>
      (await intercede('events', '--no-follow', '--filter', 'type=call', '--filter', filter)).split('\n').length - 1
    expect(await count(`comm=${SHOWN}`)).toBe(2)
    expect(await count(`comm!=${SHOWN}`)).toBe(0)
    expect(await count('comm~31m')).toBe(2)
    expect(await count(`pid=${pid}`)).toBe(2)
    expect(await count('pid=1')).toBe(0)
  },
)

test('of many calls that their registers decide only some are looked at', async () => {
  const loop = [
    fixture('mknod-loop'),
    '--warmup',
    '0',
    '--count',
    '2000',
    '--device',
    '1:1',
    join(daemon.directory, 'node'),
  ]
  const container = ['--userns', USERNS, '--await-agent', '--id', 'flood']
  await new Promise((resolve) =>
    execFile(
      fixture('filtered'),
      [daemon.socket, ...container, '--metadata', 'security.syscalls.intercept.mknod=true', '--', ...loop],
      resolve,
    ),
  )
  const words = ['events', '--no-follow', '--format', 'json', '--filter', 'container=flood', '--filter', 'type=call']
  const rows = (await intercede(...words))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(rows).toHaveLength(2000)
  const named = rows.filter(({ comm }) => comm !== undefined)
  expect(rows[0]).toMatchObject({ comm: expect.stringContaining('mknod-loop') })
  expect(named.length).toBeGreaterThanOrEqual(10)
  expect(named.length).toBeLessThan(100)
})
