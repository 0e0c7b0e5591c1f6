import { spawn } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

const PAIRS = 15
const MOST = 1.1

let host: Host
beforeAll(async () => {
  host = await Host.start()
})
afterAll(() => host?.close())

/** Runs an action beside a reader, and a server with a stream, that have read and are stopped then; kills them after it. */
async function besideStopped<T>(action: () => Promise<T>): Promise<T> {
  const api = await Api.start(host.feedSocket)
  const words = ['events', '--feed', host.feedSocket, '--format', 'json']
  const reader = spawn(process.execPath, [CLI, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  const said = { reader: 0, stream: 0 }
  reader.stdout.on('data', (chunk: Buffer) => (said.reader += chunk.length))
  const stream = connect(api.socket)
  stream.on('error', () => {}).on('data', (chunk: Buffer) => (said.stream += chunk.length))
  stream.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  try {
    await until('both read', () => said.reader > 0 && said.stream > 500)
    for (const child of [reader, api.child]) child.kill('SIGSTOP')
    return await action()
  } finally {
    reader.kill('SIGKILL')
    stream.destroy()
    await api.close()
  }
}

/** How long a call that is passed on takes, in nanoseconds: what is done for it varies with the file system. */
async function call(): Promise<number> {
  const { stdout } = await host.run(
    [],
    [fixture('mknod-loop'), '--count', '5000', '--device', '1:1', join(host.directory, 'node')],
  )
  return (JSON.parse(stdout) as { readonly medianNs: number }).medianNs
}

const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

test('readers that are stopped, or killed, make no call slower', { timeout: 180_000 }, async () => {
  await call()
  const ratios: number[] = []
  for (let pair = 0; pair < PAIRS; pair++) {
    const isFirst = pair % 2 === 0
    const before = isFirst ? await call() : 0
    const beside = await besideStopped(call)
    const alone = isFirst ? before : await call()
    ratios.push(beside / alone)
  }
  console.log('beside stopped readers, to without', ratios.map((ratio) => ratio.toFixed(2)).join(' '))
  expect(median(ratios)).toBeLessThan(MOST)
})
