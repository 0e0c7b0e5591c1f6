import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { execute, Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { statFields } from '../../support/stat.ts'

const PAIRS = 9
/** How many times as many there are where others disturb. */
const MORE = 4
const MOST = 1.25
/**
 * Of one processor, while calls come as fast as they can: 0.07 here with Node 20, 0.15 on a slow machine with Node 24. Without
 * a limit it is a whole one.
 */
const MOST_CPU = 0.3
const RATE = 2000
const TICK_MS = 10

let host: Host
let reader: ChildProcess
let said = ''

function startReader(): ChildProcess {
  const words = [CLI, 'events', '--feed', host.feedSocket, '--format', 'json', '--tail', '0']
  return spawn('nice', ['-n', '19', process.execPath, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
}
beforeAll(async () => {
  host = await Host.start()
  reader = startReader()
  reader.stdout!.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await until('it reads', async () => {
    await host.run([], ['sleep', '0.1'])
    return said.includes('"registered"')
  })
})
afterAll(() => {
  reader?.kill('SIGKILL')
  host?.close()
})

interface Flood {
  readonly medianNs: number
  readonly perSecond: number
}

/** Makes calls that are passed on as fast as it can. */
async function flood(processes: number, calls: number): Promise<Flood> {
  const words = ['--processes', `${processes}`, '--count', `${calls / processes}`, '--warmup', '0', '--device', '1:1']
  return JSON.parse((await host.run([], [fixture('mknod-loop'), ...words, join(host.directory, 'node')])).stdout)
}

/** The processor time of the reader in milliseconds. */
const cpuMs = (): number => {
  const fields = statFields(`/proc/${reader.pid}/stat`)
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}
const shown = (): number => said.split('\n').filter((line) => line.includes('"type":"call"')).length
const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

test.each([
  { processes: 1, calls: 20_000 },
  { processes: 8, calls: 20_000 },
])(
  'a flood of $processes processes beside "events", which shows 2,000 calls a second, is hardly slower',
  {
    timeout: 240_000,
  },
  async ({ processes, calls }) => {
    const start = Date.now()
    const before = shown()
    const ratios = { calls: [] as number[], time: [] as number[], cpu: [] as number[] }
    const isSlower = (): boolean => median(ratios.calls) >= MOST || median(ratios.time) >= MOST
    for (let pair = 0; pair < PAIRS || (pair < MORE * PAIRS && isSlower()); pair++) {
      const floods = new Map<string, Flood>()
      for (const way of pair % 2 === 0 ? ['SIGSTOP', 'SIGCONT'] : ['SIGCONT', 'SIGSTOP']) {
        reader.kill(way as NodeJS.Signals)
        const began = { cpu: cpuMs(), time: Date.now() }
        floods.set(way, await flood(processes, calls))
        if (way === 'SIGCONT') ratios.cpu.push((cpuMs() - began.cpu) / (Date.now() - began.time))
      }
      const [beside, alone] = [floods.get('SIGCONT')!, floods.get('SIGSTOP')!]
      ratios.calls.push(alone.perSecond / beside.perSecond)
      ratios.time.push(beside.medianNs / alone.medianNs)
    }
    reader.kill('SIGCONT')
    console.log(Object.entries(ratios).map(([name, each]) => `${name} ${median(each).toFixed(3)}`))
    expect(median(ratios.time)).toBeLessThan(MOST)
    expect(median(ratios.calls)).toBeLessThan(MOST)
    expect(median(ratios.cpu)).toBeLessThan(MOST_CPU)
    await until('what it did not show is counted', () => said.includes('"type":"lost"'))
    expect(shown() - before).toBeGreaterThan(0)
    expect(shown() - before).toBeLessThanOrEqual(RATE * (1 + (Date.now() - start) / 1000))
  },
)

test('a burst is shown whole, as fast as may be, and what was lost is said once a second', async () => {
  await until('the flood is over', async () => {
    const before = said.length
    await new Promise((resolve) => setTimeout(resolve, 1500))
    return said.length === before
  })
  const before = shown()
  const from = said.length
  await flood(1, 2 * RATE)
  await until('all are shown', () => shown() - before >= 2 * RATE)
  expect(shown() - before).toBe(2 * RATE)
  expect(said.slice(from)).not.toContain('"type":"lost"')
  const lost = [...said.matchAll(/"time":"([^"]*)","type":"lost"/g)].map(([, time]) => Date.parse(time!))
  expect(lost.length).toBeGreaterThan(1)
  const apart = lost.slice(1).map((time, index) => time - lost[index]!)
  expect(Math.min(...apart)).toBeGreaterThanOrEqual(1000)
})

test('who does not read what "events" prints costs no memory, and a signal ends it', { timeout: 60_000 }, async () => {
  const slow = startReader()
  const memory = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${slow.pid}/status`, 'utf8'))![1])
  slow.stdout!.once('readable', () => slow.stdout!.pause())
  await until('it waits for its reader', async () => {
    await flood(1, 10_000)
    return slow.stdout!.readableLength > 0
  })
  const before = memory()
  for (let round = 0; round < 8; round++) {
    await flood(1, 10_000)
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
  expect(memory() - before).toBeLessThan(8192)
  const ended = new Promise((resolve) => slow.on('exit', resolve))
  slow.kill('SIGTERM')
  expect(await ended).toBe(0)
})

test('--no-follow shows what was there at its start, and no call that comes meanwhile', {
  timeout: 90_000,
}, async () => {
  let isDone = false
  const calls = (async () => {
    while (!isDone) await flood(4, 40_000)
  })()
  const lines = async (...args: readonly string[]): Promise<readonly string[]> => {
    const words = ['30', process.execPath, CLI, 'events', '--feed', host.feedSocket, '--no-follow', ...args]
    const { status, stdout } = await execute('timeout', [...words, '--format', '{type}'])
    expect(status).toBe(0)
    return stdout.split('\n').slice(0, -1)
  }
  const tails: number[] = []
  for (let round = 0; round < 5; round++) tails.push((await lines('--tail', '3')).length)
  const all = await lines()
  isDone = true
  await calls
  expect(tails).toEqual([3, 3, 3, 3, 3])
  expect(all).toContain('call')
})
