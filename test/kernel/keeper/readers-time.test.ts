import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

const PAIRS = 15
/** One pair of runs may differ by 1.6 on a quiet machine; a call that waits for a reader takes many times as long. */
const MOST = 1.5

/** Gives orders on eight connections, and reads no answer: a program of Perl, which every Debian has. */
const DEAF = `use Socket; for (1..8) { socket(my $s, AF_UNIX, 5, 0) or die; connect($s, pack_sockaddr_un($ARGV[0])) or die $!;
send($s, $ARGV[1], 0); push @s, $s } $| = 1; print "sent"; sleep 600`
const ORDER = JSON.stringify({ version: 2, type: 'reload', dry: true })
/** In milliseconds, of a call that takes longer: while it is measured the server is killed. */
const MIDST_MS = 30

const scratch = mkdtempSync(join(tmpdir(), 'intercede-readers-'))
const control = join(scratch, 'control.sock')
let host: Host
beforeAll(async () => {
  const readAnew = () => ({ resolve: () => ({ policy: {}, details: {} }), daemon: [], anotherEngine: false })
  host = await Host.start(undefined, { controlSocketPath: control, readAnew })
})
afterAll(() => {
  host?.close()
  rmSync(scratch, { recursive: true })
})

/**
 * Runs an action beside a reader, and a server with a stream, that have read and are stopped then, and a client that
 * gives orders and reads no answer. The server is killed in the midst of it, the others after it.
 */
async function besideStopped<T>(action: () => Promise<T>): Promise<T> {
  const api = await Api.start(host.feedSocket)
  const words = ['events', '--feed', host.feedSocket, '--format', 'json']
  const reader = spawn(process.execPath, [CLI, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  const deaf = spawn('perl', ['-e', DEAF, control, ORDER], { stdio: ['ignore', 'pipe', 'inherit'] })
  const said = { reader: 0, stream: 0, deaf: 0 }
  deaf.stdout.on('data', (chunk: Buffer) => (said.deaf += chunk.length))
  reader.stdout.on('data', (chunk: Buffer) => (said.reader += chunk.length))
  const stream = connect(api.socket)
  stream.on('error', () => {}).on('data', (chunk: Buffer) => (said.stream += chunk.length))
  stream.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  try {
    await until('they have read, and said', () => said.reader > 0 && said.stream > 500 && said.deaf > 0)
    for (const child of [reader, api.child]) child.kill('SIGSTOP')
    setTimeout(() => api.child.kill('SIGKILL'), MIDST_MS)
    return await action()
  } finally {
    for (const child of [reader, deaf]) child.kill('SIGKILL')
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

test('readers that are stopped, or killed, and a client that gives orders and reads no answer make no call slower', {
  timeout: 180_000,
}, async () => {
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
