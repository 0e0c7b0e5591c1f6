// History beside many containers that are refused all the time, while daemons are restarted and killed. For the whole
// show: INTERCEDE_REFUSALS=1000000 npx vitest run test/kernel/keeper/history-flood.test.ts
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { readHistory } from '../../../src/reader/history.ts'
import { CLI, Daemon } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { execute, USERNS, until } from '../../support/host.ts'

const REFUSALS = Number(process.env.INTERCEDE_REFUSALS ?? 12_000)
const isWhole = REFUSALS >= 1_000_000
const CONTAINERS = isWhole ? 200 : 20
const MIB = 1024 * 1024
const SIZE = isWhole ? 16 : 1.5
/** How the daemons end, one after the other: those that stop, stop when their containers have ended. */
const ENDS = ['SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGTERM'] as const
/** Of each container: as many fill its lines. */
const KINDS = 60
const ROUNDS = 15
const PAIRS = isWhole ? 25 : 9
const CALLS = 8000
/** In multiples of a start of Node: it is 3 here. */
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
function inHistory(epoch: number): ReadonlyMap<string, number> {
  const { containers: all } = readHistory(kept, 0)
  return new Map(
    all.flatMap(({ id, calls }) => {
      const counts = calls as readonly { readonly verdict: string; readonly calls: number }[]
      const left = sum(counts.flatMap(({ verdict, calls: count }) => (verdict === 'left' ? [count] : [])))
      return String(id).startsWith(`build-${epoch}-`) ? [[String(id), left]] : []
    }),
  )
}

const size = (): number => sum(files.map((file) => (existsSync(file) ? statSync(file).size : 0)))

test('stays bounded and keeps the newest while daemons are killed', {
  timeout: isWhole ? 3_600_000 : 240_000,
}, async () => {
  let all = 0
  let written = 0
  let lost = 0
  for (const [epoch, signal] of ENDS.entries()) {
    const daemon = await start(config)
    const group = containers(daemon, epoch)
    const begin = Date.now()
    let seen = await refused(daemon)
    const isEnough = (): boolean =>
      seen.size === CONTAINERS &&
      sum(seen.values()) >= REFUSALS / ENDS.length &&
      Date.now() - begin > 3000 &&
      [...seen.values()].every((count) => count > 0)
    await until(
      'enough was refused',
      async () => {
        seen = await refused(daemon)
        return isEnough()
      },
      600,
    )
    if (signal === 'SIGTERM') {
      end(group)
      await until('its containers have ended', async () => (await refused(daemon)).size === 0, 120)
    }
    process.kill(daemon.pid!, signal)
    await until('the daemon has ended', () => daemon.pid === undefined, 60)
    end(group)
    all += sum(seen.values())
    const found = inHistory(epoch)
    const { corrupt, events } = readHistory(kept, 0)
    lost += sum(events.flatMap(({ type, count }) => (type === 'historyLost' ? [Number(count)] : [])))
    console.log(
      `${signal}: ${seen.size} containers, ${sum(seen.values())} refusals before; ${found.size} and ${sum(found.values())} in history; ${corrupt} torn, ${lost} lost; ${(size() / MIB).toFixed(1)} MiB; faults ${JSON.stringify(daemon.log.filter(({ level }) => level === 'error').slice(0, 2))}`,
    )
    written = Math.max(written, size())
    expect(size()).toBeLessThanOrEqual(SIZE * MIB)
  }
})
