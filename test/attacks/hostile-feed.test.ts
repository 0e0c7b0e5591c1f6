/*
 * Root reads a feed that is not the host's (`--feed` names the socket of somebody else, or of a container): the memories hold whatever
 * that daemon wants, such as sequences for root's terminal.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FeedSocket } from '../../src/keeper/feed/readers.ts'
import { openMemory, openRecords } from '../../src/keeper/persist/memories.ts'
import { PersistedState } from '../../src/keeper/persist/persisted-state.ts'
import { Reactor } from '../../src/keeper/process/reactor.ts'
import { DirectoryWriter } from '../../src/memories/directory.ts'
import { Api } from '../support/api.ts'
import { CLI } from '../support/daemon.ts'
import { execute } from '../support/host.ts'

/** Sets the title of a terminal, clears it, in one byte and in two, and turns the order of what follows. */
const EVIL = 'evil\u001b]0;OWNED\u0007\u001b[2J\u009b2J\u202e'
/** Of a container that has ended: only there refusals are texts. */
const GONE = `gone ${EVIL}`
const RAW = /[^\n -~]/

interface Shape {
  /** What stands where texts should be that are escaped already, or words of ours. */
  readonly word: unknown
  /** What stands where numbers should be. */
  readonly number: unknown
}

/** All members that commands and the API look at. */
function fill(directory: DirectoryWriter, { word, number }: Shape): void {
  const refusal = {
    ...{ count: number, call: word, verdict: word, errno: word, reason: word, says: word, remedy: word },
    ...{ pid: number, comm: word, time: number, wants: { key: word, value: word } },
  }
  const container = {
    ...{
      id: EVIL,
      serial: 4711,
      runtime: EVIL,
      name: EVIL,
      image: EVIL,
      pod: EVIL,
      namespace: EVIL,
      bundle: EVIL,
      command: EVIL,
    },
    labels: { [EVIL]: EVIL, time: EVIL },
    ...{ listeners: number, init: number, since: number, cgroup: EVIL, on: [word], withheld: [EVIL], cut: [word] },
    keys: { [EVIL]: { value: EVIL, origin: EVIL, ceiling: EVIL, asked: EVIL } },
    annotations: { [EVIL]: EVIL, call: EVIL, comm: EVIL },
    idMaps: { uid: [[number, number, number]], gid: [[word, number, number]] },
    ...{ traps: [EVIL], warnings: [EVIL], set: [{ key: EVIL, value: EVIL, by: EVIL, time: number }] },
    ...{ [EVIL]: EVIL, lastRefusal: EVIL },
  }
  directory.container(0, { ...container, index: 0 })
  directory.add('ended', {
    ...{ ...container, id: GONE, index: 1, serial: 4712, ended: number, droppedRefusals: number },
    ...{ calls: [{ nr: number, arch: number, verdict: word, reason: word, calls: number }], refusals: [refusal] },
  })
  directory.add('refused', { time: number, message: EVIL })
  for (const type of ['registered', word])
    directory.add('events', { time: number, type, id: EVIL, ...(type === word ? { message: EVIL } : {}) })
  directory.daemon({
    ...{ pid: number, version: EVIL, since: number, reloaded: number, engine: number, engineSince: number },
    ...{ engines: number, containerLabel: true, forUser: false, configPath: EVIL, stuck: number, mounters: [number] },
    ...{ restarts: { [EVIL]: number }, registrations: { [`${EVIL} ${EVIL}`]: number }, reloads: { [EVIL]: number } },
    ...{ recordsLost: number, linesSuppressed: number },
    limits: { callsPerContainer: number, listenersPerContainer: number, kept: number },
  })
  directory.beat(undefined)
}

const COMMANDS = [
  ...[['ps'], ['ps', '--wide'], ['ps', '--all'], ['ps', '--all', '--format', 'json']],
  ['ps', '--all', '--format', '{id} {name} {lastRefusal} {state} {message} {keys} {pid}'],
  ...[
    ['inspect', EVIL],
    ['inspect', GONE],
    ['inspect', GONE, '--format', 'json'],
  ],
  ['inspect', GONE, '--format', '{id} {annotations} {refusals} {idMaps} {since} {set} {keys}'],
  ...[['explain'], ['explain', GONE], ['explain', GONE, '--format', 'json']],
  ['explain', GONE, '--format', '{call} {verdict} {errno} {reason} {says} {remedy} {comm} {pid} {count} {time}'],
  ...[
    ['events', '--no-follow'],
    ['events', '--no-follow', '--format', 'json'],
  ],
  ...[
    ['events', '--no-follow', '--format', 'strace'],
    ['events', '--no-follow', '--format', '{type} {container} {message}'],
  ],
  ...[['top', '--once', '--interval', '0.1'], ['top', '--once', '--interval', '0.1', '--format', 'json'], ['metrics']],
  ...[['status'], ['status', '--format', 'json'], ['status', '--format', '{version} {pid} {since} {engines}']],
]

const PATHS = ['/metrics', '/v1/status', '/v1/containers?all=true', '/v1/refusals', '/v1/events?follow=false']

/** Where a number is no number some commands fail, in one sentence. */
describe.each([
  { name: 'texts', shape: { word: EVIL, number: 1_700_000_000_000 }, mayFail: false },
  { name: 'texts in place of numbers', shape: { word: EVIL, number: EVIL }, mayFail: true },
  { name: 'objects', shape: { word: { call: EVIL, [EVIL]: [EVIL] }, number: [EVIL] }, mayFail: true },
])('of a feed with hostile $name', ({ shape, mayFail }) => {
  const folder = mkdtempSync(join(tmpdir(), 'intercede-hostile-feed-'))
  const path = join(folder, 'feed.sock')
  let reactor: Reactor
  let socket: FeedSocket
  let api: Api

  beforeAll(async () => {
    chmodSync(folder, 0o700)
    const state = new PersistedState(undefined)
    const { fd: records } = openRecords(state, 1024)
    const { fd: counts } = openMemory(state, 'counts')
    const { fd, memory } = openMemory(state, 'directory')
    fill(new DirectoryWriter(memory), shape)
    reactor = new Reactor()
    socket = new FeedSocket(reactor, path, { records, counts, directory: fd }, state)
    api = await Api.start(path)
  })
  afterAll(async () => {
    await api?.close()
    socket?.close()
    reactor?.close()
    rmSync(folder, { recursive: true })
  })

  const isRaw = (text: string): boolean => RAW.test(text)

  test('nothing raw comes out of any command', async () => {
    const asked = COMMANDS.filter((words) => !mayFail || !/^top|^metrics|\{/.test(words.join(' ')))
    const outputs = asked.map(async (words) => {
      const done = await execute(process.execPath, [CLI, ...words, '--feed', path])
      return { words, said: done.stdout + done.stderr, status: done.status ?? -1 }
    })
    const all = await Promise.all(outputs)
    expect(all.filter(({ said }) => isRaw(said)).map(({ words }) => words)).toEqual([])
    if (mayFail) return
    expect(all.filter(({ status }) => ![0, 1].includes(status))).toEqual([])
    // It is shown, escaped, wherever it is a text of a container.
    const without = all.filter(({ words, said }) => !/^top|^explain$/.test(words.join(' ')) && !said.includes('evil'))
    expect(without).toEqual([])
  })

  test('nor out of intercede api', async () => {
    const answers = PATHS.map(async (asked) => ({ asked, ...(await api.ask(asked)) }))
    const all = await Promise.all(answers)
    expect(all.filter(({ text }) => isRaw(text)).map(({ asked }) => asked)).toEqual([])
    if (!mayFail) expect(all.filter(({ status }) => status !== 200)).toEqual([])
  })
})
