// A thousand containers that were handed over: what reading them costs, against starts of Node in the same run.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Api } from '../../support/api.ts'
import { CLI, Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { USERNS } from '../../support/host.ts'
import { statFields } from '../../support/stat.ts'

const CONTAINERS = 1000
const ROUNDS = 7
const TICK_MS = 10
/** Of each container: two kinds of refusals, five times each. */
const CALLS = 10

let daemon: Daemon
let empty: Daemon
let containers: ChildProcess
const feedOf = ({ directory }: Daemon): string => join(directory, 'feed.sock')

interface Row {
  readonly id: string
  readonly calls: number
  readonly lastRefusal: string
}

const ps = (...words: readonly string[]): readonly string[] => [CLI, 'ps', '--feed', feedOf(daemon), ...words]
const node = (words: readonly string[]) =>
  spawnSync(process.execPath, words, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
const rows = (): readonly Row[] => {
  const { status, stdout } = node(ps('--format', 'json'))
  return status === 0 ? JSON.parse(stdout) : []
}

beforeAll(async () => {
  empty = await Daemon.start()
  daemon = await Daemon.start()
  const loop = `${fixture('mknod-loop')} --warmup 0 --count ${CALLS / 2} ${join(daemon.directory, 'node')}`
  const inside = `${loop} --device 1:1 >/dev/null; ${loop} --device 1:2 >/dev/null; exec sleep 1000`
  const own = `--userns ${USERNS} --await-agent --metadata security.syscalls.intercept.mknod=true --id container-$n`
  const one = `${fixture('filtered')} ${daemon.socket} ${own} -- /bin/sh -c '${inside}'`
  // A few at a time: how fast they start is not what is asked.
  const all = `n=0; while [ $n -lt ${CONTAINERS} ]; do n=$((n + 1)); ${one} & [ $((n % 20)) = 0 ] && sleep 0.1; done; wait`
  containers = spawn('/bin/sh', ['-c', all], { stdio: ['ignore', 'inherit', 'inherit'], detached: true })
  const isComplete = (): boolean => {
    const seen = rows()
    return seen.length === CONTAINERS && seen.every(({ calls }) => calls === CALLS)
  }
  for (let tries = 0; tries < 60 && !isComplete(); tries++) await new Promise((resolve) => setTimeout(resolve, 1000))
  expect(isComplete()).toBe(true)
}, 240_000)
afterAll(async () => {
  if (containers?.pid) process.kill(-containers.pid, 'SIGKILL')
  await empty?.close()
  await daemon?.close()
}, 120_000)

const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

/** How long a program of Node takes, in milliseconds. */
function time(words: readonly string[]): number {
  const start = performance.now()
  expect(node(words)).toMatchObject({ status: 0, stderr: '' })
  return performance.now() - start
}

test('"ps" lists a thousand containers in the time of a few starts of Node', { timeout: 120_000 }, () => {
  expect(new Set(rows().map(({ id }) => id)).size).toBe(CONTAINERS)
  const times = { node: [] as number[], none: [] as number[], all: [] as number[] }
  for (let round = 0; round < ROUNDS; round++) {
    times.node.push(time(['-e', '0']))
    times.none.push(time([CLI, 'ps', '--feed', feedOf(empty)]))
    times.all.push(time(ps()))
  }
  const [start, none, all] = [median(times.node), median(times.none), median(times.all)]
  console.log(`node ${start.toFixed(0)} ms, ps of none ${none.toFixed(0)} ms, of 1,000 ${all.toFixed(0)} ms`)
  expect((all - none) / start).toBeLessThan(8)
})

test('metrics of a thousand containers are small, and take little of the processor', { timeout: 60_000 }, async () => {
  const api = await Api.start(feedOf(daemon))
  const cpuMs = (): number => {
    const fields = statFields(`/proc/${api.child.pid}/stat`)
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS
  }
  try {
    const took: number[] = []
    for (let round = 0; round < 5; round++) {
      const before = cpuMs()
      const { status, text } = await api.ask('/metrics')
      took.push(cpuMs() - before)
      expect(status).toBe(200)
      expect(text.length).toBeLessThan(1024 * 1024)
      expect(text).not.toContain('container-')
      const left = 'intercede_calls_total{syscall="mknodat",verdict="left",reason="deviceNotAllowed"}'
      expect(text).toContain(`${left} ${CONTAINERS * CALLS}\n`)
    }
    console.log('processor time of /metrics', took.join(' '), 'ms')
    expect(median(took)).toBeLessThanOrEqual(200)
  } finally {
    await api.close()
  }
})
