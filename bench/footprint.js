// npm run bench -- --footprint [--rounds N] [--write-docs]: the memory and the threads of our processes while they wait.
// PSS counts what several processes share in equal parts (smaps_rollup, proc_pid_smaps(5)).
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BASE, compileFixtures } from './sides.js'

/** @typedef {{ megabytes: number, threads: number }} Footprint */
/** @typedef {{ name: string, goal?: Footprint } & Footprint} FootprintRow */

const MAIN = fileURLToPath(new URL('../bin/intercede.js', import.meta.url))
/** The options of Node with which the unit starts the daemon. */
const NODE_OPTIONS = /^Environment=NODE_OPTIONS=(.*)/m.exec(
  readFileSync(new URL('../deploy/systemd/intercede.service', import.meta.url), 'utf8'),
)?.[1]
/** All threads are started, and what the start has used is free again. */
const SETTLED_MS = 5000

const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]
const children = (/** @type {number} */ pid) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
const isOurs = (/** @type {number} */ pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/dist/')

/** @returns {Footprint} of a keeper and of those of its children that are ours, too */
function footprint(/** @type {number} */ keeper) {
  const all = [keeper, ...children(keeper).filter(isOurs)]
  const kilobytes = all.map((pid) =>
    Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]),
  )
  return {
    megabytes: kilobytes.reduce((sum, each) => sum + each, 0) / 1024,
    threads: all.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/task`).length, 0),
  }
}

const nothing = async () => () => {}
const CONTAINERS = 100
const LISTENERS = 4

/** Starts many containers, each with several listeners. @returns what ends them */
async function crowd(/** @type {string} */ filtered, /** @type {string} */ socket) {
  const started = (/** @type {number} */ container, /** @type {number} */ listener) => {
    const status = listener === 0 ? 'creating' : 'running'
    const options = ['--userns', `${BASE}:65536`, '--id', `crowd-${container}`, '--status', status, '--await-agent']
    return spawn(filtered, [socket, ...options, '--', 'sleep', '300'], { stdio: 'ignore', detached: true })
  }
  const all = []
  for (let listener = 0; listener < LISTENERS; listener++)
    for (let container = 0; container < CONTAINERS; container++) {
      const child = started(container, listener)
      all.push(child)
      // Few at a time: a listener is handed over when its program runs.
      if (all.length % 10 === 0) await sleep(100)
    }
  return () => {
    for (const { pid } of all) if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  }
}

/** Starts a command of ours, looks at it once it waits, and ends it. */
async function look(
  /** @type {readonly string[]} */ args,
  /** @type {() => Promise<() => void>} */ fill,
  /** @type {number} */ settledMs,
) {
  const env = { ...process.env, ...(args[0] === 'serve' && { NODE_OPTIONS }) }
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = once(child, 'exit')
  await sleep(settledMs)
  const empty = await fill()
  try {
    if (fill !== nothing) await sleep(settledMs)
    if (child.pid === undefined || child.exitCode !== null)
      throw new Error(`Cannot look at "${args.join(' ')}": it has ended`)
    return footprint(child.pid)
  } finally {
    empty()
    child.kill()
    await ended
  }
}

/** @returns {Promise<FootprintRow[]>} */
export async function measureFootprints(
  /** @type {string} */ folder,
  /** @type {number} */ rounds,
  settledMs = SETTLED_MS,
) {
  const places = [`${folder}/idle.sock`, `${folder}/idle-lxc.sock`]
  const { filtered } = compileFixtures(folder, ['filtered'])
  const serve = ['serve', '--socket', places[0], '--lxc-socket', places[1]]
  const commands = [
    {
      name: 'serve, idle',
      args: serve,
      goal: { megabytes: 80, threads: 16 },
    },
    {
      name: `serve, ${CONTAINERS} containers, ${CONTAINERS * LISTENERS} listeners`,
      args: serve,
      more: { megabytes: 8, threads: Number.NaN },
      fill: () => crowd(filtered, places[0]),
    },
    {
      name: 'run -c mknod',
      args: ['run', '-c', 'mknod', '--', 'sleep', '60'],
      goal: { megabytes: 60, threads: Number.NaN },
    },
    { name: 'run', args: ['run', '--', 'sleep', '60'] },
  ]
  const rows = []
  for (const { name, args, goal: own, more, fill = nothing } of commands) {
    const seen = []
    for (let round = 0; round < rounds; round++) seen.push(await look(args, fill, settledMs))
    const goal = more ? { ...more, megabytes: rows[0].megabytes + more.megabytes } : own
    const [megabytes, threads] = [median(seen.map((each) => each.megabytes)), median(seen.map((each) => each.threads))]
    rows.push({ name, megabytes, threads, goal })
  }
  return rows
}

const judged = (/** @type {number} */ value, /** @type {number | undefined} */ goal) =>
  goal === undefined || Number.isNaN(goal) ? '' : ` (goal ${goal.toFixed(0)}: ${value <= goal ? 'met' : 'not met'})`

const cells = (/** @type {FootprintRow} */ { name, megabytes, threads, goal }) => [
  `intercede ${name}`,
  `${megabytes.toFixed(0)} MB${judged(megabytes, goal?.megabytes)}`,
  `${threads}${judged(threads, goal?.threads)}`,
]

export const footprintTable = (/** @type {readonly FootprintRow[]} */ rows) =>
  rows
    .map(
      (row) =>
        `  ${cells(row)
          .map((cell) => cell.padEnd(30))
          .join(' ')}`,
    )
    .join('\n')

export const footprintSection = (
  /** @type {readonly FootprintRow[]} */ rows,
  /** @type {Record<string, string | number>} */ facts,
) => `| what | memory of all its processes (PSS) | threads |
| --- | --- | --- |
${rows.map((row) => `| ${cells(row).join(' | ')} |`).join('\n')}
| incusd, recorded on another day | 64 MB | |

${Object.entries(facts)
  .map(([name, value]) => `${name} ${value}`)
  .join(', ')}`
