import { spawn, spawnSync } from 'node:child_process'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { KeeperEvent } from '../../../src/keeper/process/events.ts'
import { connectUnix, send, socketpair } from '../../../src/kernel/socket.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, USERNS, until } from '../../support/host.ts'

let host: Host
beforeAll(async () => {
  host = await Host.start()
})
afterAll(() => host.close())

const state = (changes: object = {}): string =>
  JSON.stringify({
    ociVersion: '1.0.2',
    fds: ['seccompFd'],
    pid: process.pid,
    state: { ociVersion: '1.0.2', id: 'c', status: 'creating', bundle: '/' },
    ...changes,
  })

/** Between two pieces the keeper, which runs in this thread, must have read: a full socket would block it for ever. */
const PAUSE_MS = 50

/** Says `pieces` in order to the agent, the first with `fds` descriptors of no use, and closes. @returns the refusal */
async function say(pieces: readonly string[], fds: number): Promise<string> {
  const before = host.events.length
  const pairs = Array.from({ length: fds }, () => socketpair())
  using connection = connectUnix(host.socket)
  for (const [index, piece] of pieces.entries()) {
    send(connection, Buffer.from(piece), index === 0 ? pairs.map(([fd]) => fd) : [])
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  connection[Symbol.dispose]()
  for (const fd of pairs.flat()) fd[Symbol.dispose]()
  await until('the hand-over is refused', () => host.events.length > before)
  const event = host.events[before]!
  return event.type === 'refused' ? event.message : event.type
}

/** Whose connection that was. The name of the process is that of this thread. */
const NOTHING = new RegExp(`^".+" \\(pid ${process.pid}, uid 0\\) connected and ended without a hand-over$`)

describe('a client that breaks the protocol is refused, and nothing leaks', () => {
  test.each([
    { what: 'nothing', pieces: [], fds: 0, refusal: NOTHING },
    { what: 'garbage', pieces: ['\0\xff{{'], fds: 1, refusal: /not JSON/ },
    { what: 'no descriptor', pieces: [state()], fds: 0, refusal: /descriptor did not come/ },
    { what: 'a descriptor that is no listener', pieces: [state()], fds: 1, refusal: /no seccomp listener/ },
    { what: 'too many descriptors', pieces: [state()], fds: 200, refusal: /more than 16/ },
    {
      what: 'a state in pieces',
      pieces: [state().slice(0, 10), state().slice(10, 60), state().slice(60)],
      fds: 1,
      refusal: /no seccomp listener/,
    },
    { what: 'names that do not name it', pieces: [state({ fds: ['other'] })], fds: 1, refusal: /called seccompFd/ },
    { what: 'no pid', pieces: [state({ pid: -1 })], fds: 1, refusal: /pid/ },
    { what: 'an init without a pid', pieces: [state({ pid: 0 })], fds: 1, refusal: /init has no pid/ },
    { what: 'no id', pieces: [state({ state: { status: 'creating' } })], fds: 1, refusal: /state\.id/ },
    {
      what: 'a megabyte',
      pieces: Array.from({ length: 17 }, () => 'x'.repeat(64 * 1024)),
      fds: 1,
      refusal: /more than 1048576 bytes/,
    },
  ])('$what', async ({ pieces, fds, refusal }) => {
    // What is refused never gets to the engine, whose pool grows when the machine is busy. Here a file may just be open.
    const { keeperFds } = host.footprint
    expect(await say(pieces, fds)).toMatch(refusal)
    await until('nothing has leaked', () => host.footprint.keeperFds <= keeperFds)
  })
})

test('a client that connects and stays silent stalls nobody', async () => {
  const silent = [connectUnix(host.socket), connectUnix(host.socket)]
  expect(await host.call(['mknod', join(host.directory, 'beside'), '020666', '1', '3'])).toMatchObject({ result: 'ok' })
  const before = host.events.length
  for (const fd of silent) fd[Symbol.dispose]()
  await until('both are refused', () => host.events.slice(before).filter(({ type }) => type === 'refused').length === 2)
})

test('a client that keeps the connection open, as crun run does, is served at once', async () => {
  const pair = socketpair()
  using connection = connectUnix(host.socket)
  const before = host.events.length
  send(connection, Buffer.from(state()), [pair[0]])
  // Containers of other tests end meanwhile.
  const refused = () => host.events.slice(before).find(({ type }) => type === 'refused')
  await until('the state is taken before the client closes', () => refused() !== undefined)
  expect(refused()).toMatchObject({ message: expect.stringMatching(/no seccomp listener/) })
  for (const fd of pair) fd[Symbol.dispose]()
})

test('only root may connect to the socket of the runtimes', async () => {
  const before = host.events.length
  const script = `import socket; s=socket.socket(socket.AF_UNIX); s.connect("${host.socket}")`
  const { status, stderr } = await execute('setpriv', [
    '--reuid',
    '1234',
    '--clear-groups',
    '/usr/bin/python3',
    '-c',
    script,
  ])
  expect(status).not.toBe(0)
  expect(stderr).toContain('PermissionError')
  // The container of an earlier test may end meanwhile.
  expect(host.events.slice(before).filter(({ type }) => type !== 'ended')).toEqual([])
})

test('a second daemon on the same socket is refused, the first goes on', async () => {
  await expect(Host.start(undefined, { socketPath: host.socket })).rejects.toThrow(/another intercede serves it/)
  await new Promise<void>((resolve, reject) => createConnection(host.socket, resolve).on('error', reject))
})

test('a daemon leaves a path alone that is no socket', async () => {
  const path = join(host.directory, 'file')
  await execute('touch', [path])
  await expect(Host.start(undefined, { socketPath: path })).rejects.toThrow(/not a socket/)
})

test('metadata and annotations of a hand-over arrive', async () => {
  const given = ['--annotation', 'nerdctl/name=web', '--annotation', 'a.b=c']
  const isIt = (event: KeeperEvent): boolean => event.type === 'registered' && event.handover.id === 'said'
  const done = host.run(['--id', 'said', '--metadata', 'profile=web', ...given], ['sleep', '1'])
  await until('the container is known', () => host.events.some(isIt))
  expect((await done).status).toBe(0)
  const registered = host.events.findLast(isIt)
  // Nobody reads the other one.
  const annotations = { 'nerdctl/name': 'web' }
  expect(registered).toEqual(
    expect.objectContaining({
      handover: expect.objectContaining({ id: 'said', metadata: 'profile=web', annotations }),
    }),
  )
})

test('a policy that is not understood serves nothing', async () => {
  const own = await Host.start(undefined, {
    resolve: () => {
      throw new Error('unknown key "x"')
    },
  })
  try {
    const { result, records } = await own.call(['mknod', join(own.directory, 'n'), '020666', '1', '3'])
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'policyInvalid' }])
    expect(own.events).toContainEqual({
      ...{ type: 'refused', message: expect.stringContaining('unknown key "x"'), cause: 'policy' },
    })
  } finally {
    own.close()
  }
})

test('when the engine is killed another one serves what it served, and the keeper says so', async () => {
  const own = await Host.start()
  own.mayLoseEngine = true
  const stay = spawn(
    fixture('filtered'),
    [own.socket, '--await-agent', '--', 'sh', '-c', `read line; ${fixture('caller')} mknod /nowhere/n 020666 1 3`],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  await until('the container is known', () => own.events.some(({ type }) => type === 'registered'))
  const first = own.enginePid
  process.kill(first, 'SIGKILL')
  await until('the engine has ended', () => own.events.some(({ type }) => type === 'engineEnded'))
  const said = new Promise<string>((resolve) => stay.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())))
  stay.stdin.write('go\n')
  expect(JSON.parse(await said)).toEqual({ errno: 'ENOENT' })
  expect(own.events).toContainEqual({ type: 'engineEnded', how: 'was ended by SIGKILL', cause: 'killed', pause: 0 })
  expect(own.enginePid).not.toBe(first)
  own.close()
})

test('a container that has ended before it could be looked at is no failure, and leaves nothing', async () => {
  const before = host.events.length
  const { keeperFds } = host.footprint
  // This process is the keeper: it hears nothing before the command has ended.
  const { status } = spawnSync(fixture('filtered'), [host.socket, '--userns', USERNS, '--', 'true'])
  expect(status).toBe(0)
  await host.call(['mknod', join(host.directory, 'after'), '020666', '1', '3'])
  await until('all descriptors are closed', () => host.footprint.keeperFds <= keeperFds)
  expect(host.events.slice(before).filter(({ type }) => type === 'refused' || type === 'fault')).toEqual([])
})
