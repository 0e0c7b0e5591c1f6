import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { CLI, Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, USERNS, until } from '../../support/host.ts'

/** A sequence of a terminal, a line of its own, a control character of two bytes, and one that turns the order of what follows. */
const NAME = 'a\u001b[2J\nb\u009b2J\u202ec'
const SHOWN = String.raw`a\033[2J\012b\302\2332J\342\200\256c`
/** The same with a byte that is no UTF-8, as the shell of the container prints it. */
const PATH = String.raw`a\033[2J\nb\377c`
const SHOWN_PATH = String.raw`a\033[2J\012b\377c`
const RAW = /[^\n -~]/
/** In JSON a backslash is two. */
const inJson = (shown: string): string => shown.replaceAll('\\', '\\\\')

let daemon: Daemon
let api: Api
let container: ChildProcess
const intercede = async (...words: readonly string[]): Promise<string> => {
  const { stdout, stderr } = await execute(process.execPath, [
    CLI,
    ...words,
    '--feed',
    join(daemon.directory, 'feed.sock'),
  ])
  return stdout + stderr
}

beforeAll(async () => {
  daemon = await Daemon.start('metrics: { container: true }\nlog: { level: debug }')
  api = await Api.start(join(daemon.directory, 'feed.sock'))
  const annotations = ['nerdctl/name', 'io.kubernetes.cri.image-name', 'security.syscalls.intercept.x'].flatMap(
    (key) => [...['--annotation', `${key}=${NAME}`]],
  )
  // More than its place in the directory has room for, since each of these becomes six characters.
  for (let number = 0; number < 15; number++)
    annotations.push(
      '--annotation',
      `security.syscalls.intercept.${'\u0001'.repeat(80)}${number}=${'\u0001'.repeat(120)}`,
    )
  const metadata = ['--metadata', 'security.syscalls.intercept.mknod=true']
  mkdirSync(join(daemon.directory, 'd'))
  chmodSync(join(daemon.directory, 'd'), 0o777)
  // It goes on making calls, which top shows, until there is a file.
  const script = `cd ${daemon.directory}/d; n=$(printf '${PATH}'); while [ ! -e ../stop ]; do ${fixture('caller')} mknod "$n" 020666 1 1
${fixture('caller')} mknod "$n" 020666 1 3; rm -f "$n"; sleep 0.1; done >/dev/null`
  const words = [
    daemon.socket,
    '--userns',
    USERNS,
    '--pidns',
    '--await-agent',
    '--id',
    NAME,
    ...annotations,
    ...metadata,
  ]
  container = spawn(fixture('filtered'), [...words, '--', 'sh', '-c', script], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  await until('it has made its calls', async () => (await intercede('events', '--no-follow')).includes(SHOWN_PATH), 60)
})
afterAll(async () => {
  writeFileSync(join(daemon.directory, 'stop'), '')
  await until('the container has ended', () => container.exitCode !== null)
  await api?.close()
  await daemon?.close()
})

test.each([
  { words: ['ps'], has: [SHOWN] },
  { words: ['ps', '--all', '--format', 'json'], has: [inJson(SHOWN)] },
  { words: ['ps', '--format', '{id} {name} {image} {lastRefusal}'], has: [SHOWN] },
  { words: ['inspect', NAME], has: [SHOWN] },
  { words: ['inspect', NAME, '--format', 'json'], has: [inJson(SHOWN)] },
  { words: ['inspect', NAME, '--format', '{id} {annotations} {warnings} {ignored} {refusals}'], has: [SHOWN] },
  { words: ['explain'], has: [SHOWN] },
  { words: ['explain', NAME, '--format', 'json'], has: [inJson(SHOWN)] },
  { words: ['events', '--no-follow'], has: [SHOWN, SHOWN_PATH] },
  { words: ['events', NAME, '--no-follow', '--format', 'json'], has: [inJson(SHOWN), inJson(SHOWN_PATH)] },
  { words: ['events', '--no-follow', '--format', 'strace'], has: [SHOWN, SHOWN_PATH] },
  { words: ['events', '--no-follow', '--format', '{container} {call} {message}'], has: [SHOWN, SHOWN_PATH] },
  { words: ['top', '--once', '--interval', '0.5'], has: [SHOWN.slice(0, 10)] },
  { words: ['top', '--once', '--interval', '0.5', '--format', 'json'], has: [inJson(SHOWN)] },
  { words: ['top', '--once', '--interval', '0.5', '--format', '{container}'], has: [SHOWN] },
  { words: ['metrics'], has: [inJson(SHOWN)] },
  { words: ['status'], has: [] },
  { words: ['set', NAME, 'mknod'], has: [] },
  { words: ['set', NAME, 'setxattr=maybe'], has: [] },
  { words: ['inspect', `${NAME}x`], has: [] },
])('nothing raw of a container comes out of $words', async ({ words, has }) => {
  const said = await intercede(...words)
  expect(RAW.exec(said)?.[0]).toBeUndefined()
  for (const shown of has) expect(said).toContain(shown)
})

test.each(['/metrics', '/v1/containers', '/v1/containers?all=true', '/v1/refusals', '/v1/events?follow=false'])(
  'nor out of %s of intercede api',
  async (path) => {
    const { status, text } = await api.ask(path)
    expect(status).toBe(200)
    expect(RAW.exec(text)?.[0]).toBeUndefined()
    expect(text).toContain(inJson(SHOWN))
  },
)

test('nor out of the log, which has a line for each', () => {
  expect(daemon.said.some((line) => RAW.test(line))).toBe(false)
  expect(daemon.log.find(({ message }) => message === 'call')).toMatchObject({ container: NAME })
})
