import { spawn } from 'node:child_process'
import { chmodSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MSG_DONTWAIT } from '../../src/abi/socket.ts'
import { textFile } from '../../src/kernel/shared-memory.ts'
import { connectUnix, send, socketpair } from '../../src/kernel/socket.ts'
import { Random } from '../fuzz/random.ts'
import { Api } from '../support/api.ts'
import { Daemon, Maker } from '../support/daemon.ts'
import { until } from '../support/host.ts'

/** More on demand, and with another seed. */
const SECONDS = Number(process.env.INTERCEDE_FUZZ_SECONDS ?? 8)
const SEED = Number(process.env.FUZZ_SEED ?? 20)
/** Its text: a user may not be able to read the file. */
const FUZZER = readFileSync(new URL('../fixtures/fuzz-sockets.pl', import.meta.url), 'utf8')
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
/** In MiB: what a flood may leave behind in keeper, engine and api; Node gives memory back when it has to. Of api the
 * unit bounds it: 128 MiB of old objects (NODE_OPTIONS), 256 of all (MemoryMax). */
const MORE = [96, 96, 200]
/** In milliseconds: the machine has two processors, and two fuzzers take them. */
const SLOWEST = 5000

let daemon: Daemon
let api: Api
let maker: Maker
beforeAll(async () => {
  daemon = await Daemon.start()
  api = await Api.start(join(daemon.directory, 'feed.sock'))
  maker = new Maker(daemon)
  expect(await maker.make()).toBe('ok')
})
afterAll(async () => {
  maker?.end()
  await api?.close()
  await daemon?.close()
})

const STATE = { ociVersion: '1.0.2', id: 'c', status: 'creating', bundle: '/', annotations: { x: 'y' } }
const HANDOVER = JSON.stringify({ ociVersion: '1.0.2', fds: ['seccompFd'], pid: 1, state: STATE, metadata: 'a=b' })
const SET = { version: 2, type: 'set', container: 'c', serial: 1, set: { mknod: 'true' }, unset: [] }

/** Each socket, with what is nearly right for it. */
const sockets = (): readonly (readonly [type: string, path: string, model: string])[] => [
  ['stream', daemon.socket, HANDOVER],
  ['stream', join(daemon.directory, 'lxc.sock'), 'x'.repeat(200)],
  ['packet', join(daemon.directory, 'feed.sock'), 'anything'],
  ['packet', join(daemon.directory, 'control.sock'), JSON.stringify(SET)],
  ['packet', join(daemon.directory, 'control.sock'), JSON.stringify({ version: 2, type: 'reload', dry: true })],
  ['stream', api.socket, String.raw`GET /v1/containers HTTP/1.1\r\nHost: localhost\r\n\r\n`],
  ['stream', api.socket, String.raw`GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n`],
]

/** Runs the fuzzer to its end. @param who words before it @returns how often it has connected, and how often not */
async function fuzz(seed: number, who: readonly string[]): Promise<readonly number[]> {
  const all = sockets()
  const words = [
    ...who,
    'perl',
    '-e',
    FUZZER,
    String(seed),
    String(SECONDS),
    ...all.map(([type, path]) => `${type}=${path}`),
  ]
  const child = spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(all.map(([, , model]) => `${model}\n`).join(''))
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await new Promise((resolve) => child.on('close', resolve))
  return said.split(' ').map(Number)
}

/** Hands over descriptors of all sorts, with a state that is nearly right. */
async function handOver(random: Random, isOver: () => boolean): Promise<number> {
  let count = 0
  for (; !isOver(); count++) {
    using file = textFile('fuzz', 'x')
    const [one, other] = socketpair()
    using connection = connectUnix(daemon.socket)
    const bytes = Buffer.from(HANDOVER)
    for (let change = random.below(4); change > 0; change--) bytes[random.below(bytes.length)] = random.below(256)
    const fds = Array.from({ length: random.below(20) }, () => random.of([file, one, other]))
    try {
      send(connection, bytes, fds, MSG_DONTWAIT)
    } catch {
      // It was refused already, or has no room.
    }
    for (const fd of [one, other]) fd[Symbol.dispose]()
    await new Promise((resolve) => setTimeout(resolve, random.below(5)))
  }
  return count
}

const pss = (pid: number): number =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))![1]) / 1024
const pids = (): readonly number[] => [daemon.pid!, daemon.engine, api.child.pid!]

test('garbage at all sockets, of root and of a user who could connect: calls are served, nothing grows or ends', {
  timeout: 120_000 + 1000 * SECONDS,
}, async () => {
  // As if an administrator had opened them all.
  for (const [, path] of sockets()) chmodSync(path, 0o666)
  const processes = pids()
  const memory = (): readonly number[] => processes.map(pss)
  const before = memory()
  let isOver = false
  const fuzzers = Promise.all([fuzz(SEED, []), fuzz(SEED + 1, NOBODY)])
  const handedOver = handOver(new Random(SEED), () => isOver)
  void fuzzers.then(() => (isOver = true))
  const times: number[] = []
  let most = before
  while (!isOver) {
    const start = performance.now()
    expect(await maker.make()).toBe('ok')
    times.push(performance.now() - start)
    most = memory().map((each, index) => Math.max(each, most[index]!))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const connections = await fuzzers
  times.sort((one, other) => one - other)
  const [median, slowest] = [times[times.length >> 1]!, times.at(-1)!]
  console.log(
    `seed ${SEED}, ${SECONDS} s: connections and refused ones of root ${connections[0]}, of nobody ${connections[1]};`,
    `${await handedOver} hand-overs with descriptors; PSS in MiB of keeper, engine, api before`,
    before.map(Math.round).join(' '),
    `at most ${most.map(Math.round).join(' ')}; ${times.length} calls, median ${median.toFixed()} ms, slowest ${slowest.toFixed()}`,
  )
  for (const [connected] of connections) expect(connected).toBeGreaterThan(100)
  expect(pids()).toEqual(processes)
  expect(daemon.logged('the engine serves')).toBe(0)
  for (const [index, each] of most.entries()) expect(each - before[index]!).toBeLessThan(MORE[index]!)
  expect(slowest).toBeLessThan(SLOWEST)
  await until('the api answers', () =>
    api.ask('/v1/status').then(
      ({ status }) => status === 200,
      () => false,
    ),
  )
  expect(await maker.make()).toBe('ok')
})
