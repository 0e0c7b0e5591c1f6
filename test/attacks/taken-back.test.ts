/*
 * A reader, a member of the group `intercede`, wants to see paths that the administrator has decided not to show any more: by the
 * commands, and in the memories that it has got before.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Fd } from '../../src/kernel/fd.ts'
import { connectUnix, receive, waitReadable } from '../../src/kernel/socket.ts'
import { CLI, Daemon } from '../support/daemon.ts'
import { fixture } from '../support/fixtures.ts'
import { execute, USERNS, until } from '../support/host.ts'

const START_S = 60
/** A path that is not to be shown any more, and names of the kernel's that may be. */
const SECRET = 'secretplace'
const NAME = 'trusted.overlay.other'

let daemon: Daemon
let container: ReturnType<typeof spawn>
beforeAll(async () => {
  daemon = await Daemon.start('')
  const folder = join(daemon.directory, SECRET)
  mkdirSync(folder)
  chmodSync(folder, 0o777)
  const calls = `for n in 1 2; do ${fixture('caller')} mknod ${folder}/x 020666 1 3; done; ${fixture('caller')} setxattr ${folder} ${NAME} y`
  const shared = ['--userns', USERNS, '--pidns', '--await-agent', '--xattr']
  const keys = 'security.syscalls.intercept.mknod=true\nsecurity.syscalls.intercept.setxattr=true'
  const start = (id: string, script: string) =>
    spawn(fixture('filtered'), [daemon.socket, ...shared, '--metadata', keys, '--id', id, '--', 'sh', '-c', script], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
  container = start('runs', `${calls}; read end`)
  start('ended', calls)
  await until(
    'one has ended, and the other has made its calls',
    async () =>
      ['runs', 'ended'].every((id) => daemon.log.some((line) => line.message === 'call' && line.container === id)) &&
      daemon.logged('container ended') === 1 &&
      shown(await said()) > 4,
  )
})
afterAll(async () => {
  container?.stdin?.end()
  await daemon?.close()
})

const feed = () => join(daemon.directory, 'feed.sock')
const COMMANDS = [
  ['events', '--no-follow'],
  ['explain', 'runs'],
  ['explain', 'ended'],
  ['ps', '--all'],
  ['inspect', 'ended', 'runs'],
]

async function said(): Promise<string> {
  const all = COMMANDS.map((words) => execute(process.execPath, [CLI, ...words, '--feed', feed()]))
  return (await Promise.all(all)).map(({ stdout }) => stdout).join('')
}

const shown = (text: string, word = SECRET): number => text.split(word).length - 1

/** All that a reader is given. */
function memories(): readonly Fd[] {
  using connection = connectUnix(feed(), 'packet')
  waitReadable(connection, 5000)
  return receive(connection, Buffer.alloc(256))!.fds
}

async function reload(config: string): Promise<void> {
  const served = daemon.logged('serving') + 1
  daemon.configure(config)
  process.kill(daemon.pid!, 'SIGHUP')
  await until('it serves again', () => daemon.logged('serving') === served, START_S)
}

test('what was recorded of arguments is taken back when less is to be recorded', async () => {
  const given = memories()
  const inMemory = (word: string): number =>
    given.reduce((sum, { raw }) => sum + shown(readFileSync(`/proc/self/fd/${raw}`, 'latin1'), word), 0)
  expect(inMemory(SECRET)).toBeGreaterThan(4)
  await reload('')
  expect(shown(await said())).toBeGreaterThan(4)
  await reload('log: { arguments: names }')
  const names = await said()
  expect([shown(names), inMemory(SECRET)]).toEqual([0, 0])
  expect(shown(names, NAME)).toBeGreaterThan(2)
  expect(names).toMatch(/mknod\(0x[0-9a-f]+, S_IFCHR\|0666, 1:3\)/)
  await reload('log: { arguments: none }')
  const none = await said()
  expect([shown(none), shown(none, NAME), inMemory(NAME)]).toEqual([0, 0, 0])
  expect(none).toMatch(/mknod\(\.\.\.\)/)
})
