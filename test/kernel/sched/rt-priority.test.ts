import { spawn } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCHED } from '../../../src/abi/sched.ts'
import { makedev } from '../../../src/abi/stat.ts'
import { fixture } from '../../support/fixtures.ts'
import { BASE, execute, Host, USERNS } from '../../support/host.ts'
import { Look, type Scheduled } from '../../support/sched-world.ts'
import { SLOWNESS } from '../../support/slowness.ts'

const MAX = 49
const SPIN_MS = 1500
/** Tasks at MAX leave what is below them 50 ms of each second; the fair share that the kernel keeps stalls the engine too. */
const STALL_MS = 300

let host: Host
let look: Look
let dir: string

beforeAll(async () => {
  host = await Host.start({
    schedSetscheduler: { maxPriority: MAX, minNice: 0, ioprio: false },
    mknod: { devices: new Set([makedev(1, 3)]) },
  })
  look = new Look()
  dir = join(host.directory, 'work')
  mkdirSync(dir)
  chownSync(dir, BASE, BASE)
})
afterAll(() => {
  look?.close()
  host?.close()
})

async function engineThreads(): Promise<Scheduled[]> {
  const threads: Scheduled[] = []
  for (const tid of readdirSync(`/proc/${host.enginePid}/task`)) threads.push(await look.get(Number(tid)))
  return threads
}

/** Waits until all threads of the engine are scheduled so. */
async function engineHas(wanted: Scheduled): Promise<void> {
  let threads: Scheduled[] = []
  for (let tries = 0; tries < 100; tries++) {
    threads = await engineThreads()
    if (threads.every((thread) => isDeepStrictEqual(thread, wanted))) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`The threads of the engine are scheduled as ${JSON.stringify(threads)}`)
}

test('only while a container may give priorities the engine is above them, and no child of it', async () => {
  const usual = { policy: SCHED.OTHER, nice: 0, priority: 0, flags: 0 }
  await engineHas(usual)
  const child = spawn(fixture('filtered'), [host.socket, '--userns', USERNS, '--await-agent', '--', 'sleep', '100'])
  await engineHas({ policy: SCHED.RR, nice: 0, priority: MAX + 1, flags: 1 })
  child.kill('SIGTERM')
  await engineHas(usual)
})

/** As the engine does in its main thread, in a process of its own. */
const ALONE = `
const [{ RtPriority }, { schedulingOf }, { LANE_WORDS, Lanes }] = await Promise.all(process.argv.slice(1).map((url) => import(url)))
const show = () => { const { policy, priority } = schedulingOf(process.pid); return [policy, priority] }
const lanes = new Lanes(new Int32Array(LANE_WORDS))
const priority = new RtPriority(lanes, (message) => { throw new Error(message) })
const seen = []
for (const step of [() => {}, () => priority.admit(1, 49), () => priority.admit(2, 30), () => priority.admit(3, 99), () => priority.forget(3), () => priority.forget(1), () => priority.forget(2)]) { step(); seen.push(show()) }
console.log(JSON.stringify(seen))
`

test.each([
  { start: ['-o', '0'], usual: [SCHED.OTHER, 0], raised: [50, 50, 0, 50, 31] },
  { start: ['-b', '0'], usual: [SCHED.BATCH, 0], raised: [50, 50, 0, 50, 31] },
  { start: ['-f', '20'], usual: [SCHED.FIFO, 20], raised: [50, 50, 0, 50, 31] },
  { start: ['-f', '60'], usual: [SCHED.FIFO, 60], raised: [0, 0, 0, 0, 0] },
  // Nothing is above 99: beside it the process stays as it is.
])('a process that was started with $start is raised above the highest, and gets back what it had', async (row) => {
  const { start, usual, raised } = row
  const built = (name: string): string => new URL(`../../../out/${name}.js`, import.meta.url).href
  const args = [
    '--input-type=module',
    '-e',
    ALONE,
    ...['engine/pool/rt-priority', 'kernel/sched', 'engine/thread/lane'].map(built),
  ]
  const { stdout, stderr } = await execute('chrt', [...start, process.execPath, ...args])
  const steps = raised.map((priority) => (priority > 0 ? [SCHED.RR, priority] : usual))
  expect(JSON.parse(stdout || stderr)).toEqual([usual, ...steps, usual])
})

test('tasks that spin at the highest priority stall no other container', async () => {
  // All on one processor, so that what else this machine does goes on.
  const cpu = `${availableParallelism() - 1}`
  await execute('taskset', ['--all-tasks', '--cpu-list', '--pid', cpu, `${host.enginePid}`])
  const pinned = ['taskset', '--cpu-list', cpu]
  const container = [fixture('filtered'), host.socket, '--userns', USERNS, '--await-agent', '--', fixture('spinners')]
  // The one that is measured is above all: only the engine can keep it waiting.
  const measure = ['chrt', '-f', '60', ...container, '--measure', join(dir, 'n'), `${2 * SPIN_MS}`]
  const measuring = spawn(pinned[0]!, [...pinned.slice(1), ...measure], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface(measuring.stdout)[Symbol.asyncIterator]()
  expect(await lines.next()).toMatchObject({ value: 'ready' })
  const spun = await host.run(['--sched', '--pidns'], [...pinned, fixture('spinners'), `${MAX}`, `${SPIN_MS}`])
  expect(spun).toMatchObject({ status: 0, stderr: '' })
  const { value } = await lines.next()
  const { calls, slowestMs } = JSON.parse(value as string) as { calls: number; slowestMs: number }
  console.log(`${calls} calls, the slowest took ${slowestMs} ms while others spun`)
  expect(slowestMs).toBeLessThan(STALL_MS * SLOWNESS)
}, 30_000)
