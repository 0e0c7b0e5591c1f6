import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

const PAIRS = 15
const MOST = 1.25
const CALLS = 20_000

let host: Host
let reader: ChildProcess
let said = ''
beforeAll(async () => {
  host = await Host.start()
  const words = [CLI, 'events', '--feed', host.feedSocket, '--format', 'json', '--tail', '0']
  reader = spawn('nice', ['-n', '19', process.execPath, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  reader.stdout!.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await until('it reads', async () => {
    await host.run([], ['true'])
    return said.includes('"registered"')
  })
})
afterAll(() => {
  reader?.kill('SIGKILL')
  host?.close()
})

/** Makes calls that are passed on as fast as it can. @returns how long one takes, in nanoseconds */
async function flood(): Promise<number> {
  const { stdout } = await host.run(
    [],
    [fixture('mknod-loop'), '--count', `${CALLS}`, '--device', '1:1', join(host.directory, 'node')],
  )
  return (JSON.parse(stdout) as { readonly medianNs: number }).medianNs
}
const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

test('a flood beside "events", which shows 2,000 calls a second and counts the rest, is hardly slower', {
  timeout: 240_000,
}, async () => {
  const start = Date.now()
  const ratios: number[] = []
  for (let pair = 0; pair < PAIRS; pair++) {
    const times = new Map<string, number>()
    for (const way of pair % 2 === 0 ? ['SIGSTOP', 'SIGCONT'] : ['SIGCONT', 'SIGSTOP']) {
      reader.kill(way as NodeJS.Signals)
      times.set(way, await flood())
    }
    ratios.push(times.get('SIGCONT')! / times.get('SIGSTOP')!)
  }
  reader.kill('SIGCONT')
  console.log('beside events, to without', ratios.map((ratio) => ratio.toFixed(2)).join(' '))
  expect(median(ratios)).toBeLessThan(MOST)
  await until('what it did not show is counted', () => said.includes('"type":"lost"'))
  const shown = said.split('\n').filter((line) => line.includes('"type":"call"')).length
  expect(shown).toBeGreaterThan(0)
  expect(shown).toBeLessThanOrEqual(2000 * (1 + (Date.now() - start) / 1000))
})
