import { type ChildProcess, spawn } from 'node:child_process'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

const PAIRS = 15
const MOST = 1.1

let host: Host
let api: Api
let reader: ChildProcess
let stream: Socket
beforeAll(async () => {
  host = await Host.start()
  api = await Api.start(host.feedSocket)
  reader = spawn(process.execPath, [CLI, 'events', '--feed', host.feedSocket, '--format', 'json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = 0
  reader.stdout!.on('data', (chunk: Buffer) => (said += chunk.length))
  stream = connect(api.socket)
  stream.on('error', () => {}).on('data', (chunk: Buffer) => (said += chunk.length))
  stream.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await host.call(['mknod', join(host.directory, 'first'), '020666', '1', '3'])
  await until('both read', () => said > 500)
})
afterAll(async () => {
  signal('SIGKILL')
  stream?.destroy()
  await api?.close()
  host?.close()
})

const signal = (name: NodeJS.Signals): void => {
  reader?.kill(name)
  api?.child.kill(name)
}
const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

/** How long a call takes, in nanoseconds. */
async function call(): Promise<number> {
  const { stdout } = await host.run([], [fixture('mknod-loop'), '--count', '400', join(host.directory, 'node')])
  return (JSON.parse(stdout) as { readonly medianNs: number }).medianNs
}

test('readers that are stopped, or killed, make no call slower', { timeout: 120_000 }, async () => {
  const ratios: number[] = []
  for (let pair = 0; pair < PAIRS; pair++) {
    const times = new Map<string, number>()
    for (const way of pair % 2 === 0 ? ['SIGCONT', 'SIGSTOP'] : ['SIGSTOP', 'SIGCONT']) {
      signal(way as NodeJS.Signals)
      times.set(way, await call())
    }
    signal('SIGCONT')
    ratios.push(times.get('SIGSTOP')! / times.get('SIGCONT')!)
  }
  console.log('with stopped readers, to those that read', ratios.map((ratio) => ratio.toFixed(2)).join(' '))
  expect(median(ratios)).toBeLessThan(MOST)
  signal('SIGKILL')
  expect((await host.call(['mknod', join(host.directory, 'last'), '020666', '1', '3'])).result).toBe('ok')
})
