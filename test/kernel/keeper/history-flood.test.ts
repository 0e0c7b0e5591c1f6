// History beside many containers that are refused all the time, while daemons are restarted and killed. For the whole
// show: INTERCEDE_REFUSALS=1000000 npx vitest run test/kernel/keeper/history-flood.test.ts
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { type PastLines, readHistory } from '../../../src/reader/history.ts'
import { CLI, Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, USERNS, until } from '../../support/host.ts'

const REFUSALS = Number(process.env.INTERCEDE_REFUSALS ?? 12_000)
const isWhole = REFUSALS >= 1_000_000
const CONTAINERS = isWhole ? 200 : 20
const MIB = 1024 * 1024
const SIZE = isWhole ? 10 : 1
/** How the daemons end, one after the other: those that stop, stop when their containers have ended. */
const ENDS = ['SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM'] as const
/** Of each container: as many fill its lines. */
const KINDS = 60
const ROUNDS = 9
const PAIRS = isWhole ? 25 : 5
const CALLS = 40_000
/** In multiples of a start of Node: it is 3 here, 4 of 16 MiB. */
const MOST_STARTS = 8
const MOST = 1.25

const directory = mkdtempSync(join(tmpdir(), 'intercede-flood-'))
const kept = join(directory, 'history')
const files = ['history.jsonl', 'history.1.jsonl'].map((name) => join(kept, name))
const config = `history: { path: ${kept}, size: ${SIZE * 1024}k }`
const groups: ChildProcess[] = []
const daemons: Daemon[] = []

async function start(configuration: string): Promise<Daemon> {
  const daemon = await Daemon.start(configuration)
  daemons.push(daemon)
  return daemon
}
const end = ({ pid }: ChildProcess): void => {
  try {
    process.kill(-pid!, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
afterEach(async () => {
  for (const group of groups.splice(0)) end(group)
  for (const daemon of daemons.splice(0)) await daemon.close()
})
afterAll(() => rmSync(directory, { recursive: true }))

const feedOf = (daemon: Daemon): string => join(daemon.directory, 'feed.sock')
const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[all.length >> 1]!

/** Starts containers whose calls are refused until they are killed, all together. */
function containers(daemon: Daemon, epoch: number): ChildProcess {
  const loop = `${fixture('mknod-loop')} --warmup 0 --count ${isWhole ? 50 : 10} ${join(daemon.directory, 'node')} --device`
  const inside = `while :; do d=0; while [ $d -lt ${KINDS} ]; do d=$((d + 1)); ${loop} 60:$d >/dev/null; done; done`
  const own = `--userns ${USERNS} --await-agent --metadata security.syscalls.intercept.mknod=true`
  const named = `--id build-${epoch}-$n --annotation io.kubernetes.cri.container-name=build-$n`
  const one = `${fixture('filtered')} ${daemon.socket} ${own} ${named} -- /bin/sh -c '${inside}' 2>/dev/null`
  const all = `n=0; while [ $n -lt ${CONTAINERS} ]; do n=$((n + 1)); ${one} & [ $((n % 20)) = 0 ] && sleep 0.1; done; wait`
  const group = spawn('/bin/sh', ['-c', all], { stdio: ['ignore', 'ignore', 'inherit'], detached: true })
  groups.push(group)
  return group
}

/** What the daemon shows of its containers: how many there are, and the calls of each that were refused. */
async function refused(daemon: Daemon): Promise<ReadonlyMap<string, number>> {
  const { stdout } = await execute(process.execPath, [CLI, 'ps', '--feed', feedOf(daemon), '--format', '{id} {left}'])
  return new Map(
    stdout.split('\n').flatMap((line) => {
      const [id = '', left] = line.split(' ')
      return id.startsWith('build-') ? [[id, Number(left)]] : []
    }),
  )
}
const sum = (counts: Iterable<number>): number => [...counts].reduce((all, count) => all + count, 0)

/** The refusals of each container that history has of one of the daemons. */
function inHistory({ containers: all }: PastLines, epoch: number): ReadonlyMap<string, number> {
  return new Map(
    all.flatMap(({ id, calls }) => {
      const counts = calls as readonly { readonly verdict: string; readonly calls: number }[]
      const left = sum(counts.flatMap(({ verdict, calls: count }) => (verdict === 'left' ? [count] : [])))
      return String(id).startsWith(`build-${epoch}-`) ? [[String(id), left]] : []
    }),
  )
}

/** In bytes. */
const size = (): number => sum(files.map((file) => (existsSync(file) ? statSync(file).size : 0)))

test('stays bounded and keeps the newest while daemons are stopped and killed', {
  timeout: isWhole ? 3_600_000 : 240_000,
}, async () => {
  let all = 0
  for (const [epoch, signal] of ENDS.entries()) {
    const daemon = await start(config)
    const group = containers(daemon, epoch)
    let seen = await refused(daemon)
    const isEnough = async (): Promise<boolean> => {
      seen = await refused(daemon)
      const past = inHistory(readHistory(kept, 0), epoch)
      // A daemon that is killed loses what it has not written: a disk may take seconds.
      const isKept = past.size === CONTAINERS && ![...past.values()].includes(0)
      return seen.size === CONTAINERS && isKept && sum(seen.values()) >= REFUSALS / ENDS.length
    }
    await until('enough was refused, and each container is in history with refusals', isEnough, 600)
    if (signal === 'SIGTERM') {
      end(group)
      await until('its containers have ended', async () => (await refused(daemon)).size === 0, 120)
    }
    const last = new Date().toISOString()
    process.kill(daemon.pid!, signal)
    await until('the daemon has ended', () => daemon.pid === undefined, 60)
    end(group)
    const [shown, past] = [sum(seen.values()), readHistory(kept, 0)]
    const found = inHistory(past, epoch)
    const lost = sum(past.events.flatMap(({ type, count }) => (type === 'historyLost' ? [Number(count)] : [])))
    const text = `${shown} refusals, ${sum(found.values())} of them in history, ${past.corrupt} torn and ${lost} lost lines`
    console.log(`${signal} of ${found.size} containers with ${text}, ${(size() / MIB).toFixed(1)} MiB`)
    expect(size()).toBeLessThanOrEqual(SIZE * MIB)
    // Each is known with refusals, and if it has ended, with all of them.
    expect([...found.keys()].sort()).toEqual([...seen.keys()].sort())
    for (const [id, count] of found) expect(count).toBeGreaterThanOrEqual(signal === 'SIGTERM' ? seen.get(id)! : 1)
    expect(past.corrupt).toBeLessThanOrEqual(epoch + 1)
    expect(lost).toBe(0)
    expect(daemon.log.filter(({ level }) => level === 'error')).toEqual([])
    if (signal === 'SIGTERM') expect(String(readHistory(kept, Date.parse(last)).events.at(-1)?.type)).toBe('stopped')
    all += shown
  }
  expect(all).toBeGreaterThanOrEqual(REFUSALS)
  // The oldest have made room for the newest.
  expect(inHistory(readHistory(kept, 0), 0).size).toBe(0)
})

/** How long a program of Node takes, in milliseconds. */
function time(words: readonly string[]): number {
  const begin = performance.now()
  spawnSync(process.execPath, words, { encoding: 'utf8', maxBuffer: 64 * MIB })
  return performance.now() - begin
}

test('is explained in the time of a few starts of Node', { timeout: 240_000 }, async () => {
  const daemon = await start(config)
  const explain = [CLI, 'explain', '--feed', feedOf(daemon)]
  const { stdout } = await execute(process.execPath, [...explain, '--since', '1h'])
  expect(stdout).toMatch(/^build-\d-/)
  const all = spawnSync(process.execPath, [...explain, '--since', '1h', '--json'], { maxBuffer: 1024 * MIB })
  const more = (JSON.parse(all.stdout.toString()) as unknown[]).length - 1000
  // A busy machine comes to fewer kinds.
  if (more > 0) expect(stdout).toContain(`\n\n${more} more kinds of refusals, of `)
  expect((await execute(process.execPath, [...explain, 'build-7'])).stdout).toMatch(/^build-5-7 \(build-7\), ended /)
  const ways = {
    node: ['-e', '0'],
    version: [CLI, '--version'],
    since: [...explain, '--since', '1h'],
    named: [...explain, 'build-7'],
  }
  const took = Object.entries(ways).map(([name, words]) => ({ name, words, times: [] as number[] }))
  for (let round = 0; round < ROUNDS; round++) for (const { words, times } of took) times.push(time(words))
  const [node, , since, named] = took.map(({ times }) => median(times)) as [number, number, number, number]
  console.log(took.map(({ name, times }) => `${name} ${median(times).toFixed(0)} ms`).join(', '))
  expect(since / node).toBeLessThan(MOST_STARTS)
  expect(named / node).toBeLessThan(MOST_STARTS)
})

interface Flood {
  readonly medianNs: number
  readonly p99Ns: number
  readonly perSecond: number
}

/** Makes calls in a container that are refused, as fast as it can. */
async function flood(daemon: Daemon, processes: number): Promise<Flood> {
  const words = ['--processes', `${processes}`, '--count', `${CALLS / processes}`, '--device', '60:1']
  const container = ['--userns', USERNS, '--await-agent', '--metadata', 'security.syscalls.intercept.mknod=true', '--']
  const loop = [fixture('mknod-loop'), ...words, join(daemon.directory, 'node')]
  return JSON.parse((await execute(fixture('filtered'), [daemon.socket, ...container, ...loop])).stdout)
}

/** Measures both ways in turn. @returns the median ratios of the second to the first */
async function inTurn(ways: readonly [() => Promise<Flood>, () => Promise<Flood>]): Promise<Flood> {
  for (const way of ways) await way()
  const ratios: Flood[] = []
  for (let pair = 0; pair < PAIRS; pair++) {
    const results: Flood[] = []
    for (const index of pair % 2 === 0 ? [0, 1] : [1, 0]) results[index] = await ways[index]!()
    const [one, other] = results as [Flood, Flood]
    const ratio = (of: keyof Flood): number => other[of] / one[of]
    ratios.push({ medianNs: ratio('medianNs'), p99Ns: ratio('p99Ns'), perSecond: ratio('perSecond') })
  }
  const each = (of: keyof Flood): number => median(ratios.map((ratio) => ratio[of]))
  return { medianNs: each('medianNs'), p99Ns: each('p99Ns'), perSecond: each('perSecond') }
}
const shown = (flood: Flood): string =>
  Object.entries(flood)
    .map(([name, ratio]) => `${name} ${ratio.toFixed(3)}`)
    .join(', ')

test.each([1, 8])('makes a flood of %i processes hardly slower', { timeout: 600_000 }, async (processes) => {
  const [without, beside] = [await start('history: { path: none }'), await start(config)]
  const ratios = await inTurn([() => flood(without, processes), () => flood(beside, processes)])
  console.log(`with history, to none: ${shown(ratios)}`)
  // Not the median of a call: as many calls per second may be an even time or two, and which is for the scheduler, which
  // once made the median three times as long.
  expect(1 / ratios.perSecond).toBeLessThan(MOST)
})

test('is read without a delay of calls: reading it costs them what reading a copy costs', {
  timeout: 600_000,
}, async () => {
  const daemon = await start(config)
  const copy = join(directory, 'copy')
  cpSync(kept, copy, { recursive: true })
  /** Makes calls beside a reader that begins anew as soon as it has ended. */
  const beside = (read: string) => async (): Promise<Flood> => {
    const loop = 'while :; do nice -n 19 "$@" >/dev/null; done'
    const words = [CLI, 'explain', '--since', '1h', '--feed', feedOf(daemon), '--history', read]
    const reader = spawn('/bin/sh', ['-c', loop, 'sh', process.execPath, ...words], { stdio: 'ignore', detached: true })
    groups.push(reader)
    try {
      return await flood(daemon, 1)
    } finally {
      end(reader)
    }
  }
  const ratios = await inTurn([beside(copy), beside(kept)])
  console.log(`beside readers of history, to those of a copy: ${shown(ratios)}`)
  if (isWhole) console.log(`beside readers, to none: ${shown(await inTurn([() => flood(daemon, 1), beside(kept)]))}`)
  expect(1 / ratios.perSecond).toBeLessThan(MOST)
})
