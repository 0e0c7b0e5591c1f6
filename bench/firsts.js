// Part of npm run bench -- --cold: what a call waits for that is the first of its kind, or the first after the engine was
// killed. A call is made by a program that a shell in a container starts, which takes a millisecond or two of each time.
import { execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BASE, compileFixtures, OWN_ENV, Servers } from './sides.js'

/** @typedef {{ name: string, ms: number, ratio: number, goal: string, met: boolean }} FirstRow */
/** @typedef {(line: string) => Promise<number>} Ask milliseconds until the answer, or of the call if the program says it */

const source = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url))
const MAIN = source('../bin/intercede.js')
const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]

const POLICY = `default:
  security.syscalls.intercept.mknod: true
  security.syscalls.intercept.mount: true
  security.syscalls.intercept.mount.allowed: tmpfs
`
/** In starts of Node, or in milliseconds. */
const GOALS = {
  'the first mount of a daemon': { most: 1.3, unit: 'N' },
  "a walker's first path": { most: 1.3, unit: 'N' },
  'SIGKILL of the engine to the next answer': { most: 1.5, unit: 'N' },
  'the first mknod in a new container': { most: 3, unit: 'ms' },
}

/** Makes a directory of a user of the container: where it is closed to the container's root, only a walker gets in. */
function directory(/** @type {string} */ path, /** @type {number} */ owner) {
  mkdirSync(path)
  chownSync(path, owner, owner)
  chmodSync(path, 0o700)
}

const engineOf = (/** @type {number} */ keeper) =>
  readFileSync(`/proc/${keeper}/task/${keeper}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number)
    .find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('/dist/engine/'))

/** Starts a shell in a container. @returns what lets it make a call, and ends it */
function container(
  /** @type {Record<string, string>} */ { filtered },
  /** @type {string} */ socket,
  /** @type {readonly string[]} */ more = [],
) {
  const options = ['--userns', `${BASE}:65536`, '--pidns', '--mounts', '--await-agent', ...more]
  const shell = ['unshare', '--mount', 'sh', '-c', 'while read -r line; do eval "$line"; done']
  const child = spawn(filtered ?? '', [socket, ...options, '--', ...shell], { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  /** @type {Ask} */
  async function ask(line) {
    const start = performance.now()
    child.stdin.write(`${line}\n`)
    const { value } = await answers.next()
    const took = performance.now() - start
    const said = JSON.parse(value ?? '{}')
    if (said.ok !== true && JSON.stringify(said.errors) !== '{}')
      throw new Error(`Cannot measure "${line}": it gave ${value}`)
    return said.medianNs === undefined ? took : said.medianNs / 1e6
  }
  async function end() {
    child.stdin.end()
    await once(child, 'exit')
  }
  return { ask, end }
}

/** Makes a control group for a container, whose device rules are not those of the daemon's. */
function controlGroup() {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/^\d+ \d+ \S+ \S+ (\S+) .* - cgroup2 /gm)
  // The last one hides those before it.
  const unified = [...mounts].at(-1)?.[1]
  const path = unified && `${unified}/intercede-firsts-${process.pid}`
  if (path) mkdirSync(path)
  return path
}

/** Its processes have ended, and the kernel needs a moment. */
async function removed(/** @type {string} */ group) {
  for (let tries = 0; readFileSync(`${group}/cgroup.procs`, 'utf8') !== '' && tries < 50; tries++) await sleep(20)
  rmdirSync(group)
}

/** @returns milliseconds, in the order of GOALS */
async function round(/** @type {Record<string, string>} */ programs, /** @type {string} */ folder) {
  const servers = new Servers()
  const socket = join(folder, 'firsts.sock')
  const daemon = await servers.start(
    [process.execPath, MAIN, 'serve', '--socket', socket, '--config', join(folder, 'firsts.yaml')],
    socket,
  )
  const { ask, end } = container(programs, socket)
  const other = async () => {
    const group = controlGroup()
    const { ask, end } = container(programs, socket, group ? ['--cgroup', group] : [])
    try {
      return await ask(`${programs['mknod-loop']} --count 1 --warmup 0 ${folder}/open/${randomUUID()}`)
    } finally {
      await end()
      if (group) await removed(group)
    }
  }
  const call = (/** @type {string} */ words) => ask(`${programs.caller} ${words}`)
  try {
    const node = (/** @type {string} */ directory) => call(`mknod ${folder}/${directory}/${randomUUID()} 020666 1 3`)
    await node('open')
    const mount = await call('mount /mnt none tmpfs')
    const path = await node('closed/in')
    const fresh = await other()
    const engine = engineOf(daemon)
    if (engine === undefined) throw new Error('Cannot kill the engine: there is none')
    process.kill(engine, 'SIGKILL')
    return [mount, path, await node('open'), fresh]
  } finally {
    await end()
    await servers.stop()
  }
}

/** @returns {Promise<FirstRow[]>} */
export async function measureFirsts(/** @type {string} */ parent, /** @type {number} */ rounds) {
  // Where no other daemon has its sockets.
  const folder = join(parent, 'firsts')
  mkdirSync(folder, { mode: 0o755 })
  const programs = compileFixtures(folder, ['filtered', 'caller', 'mknod-loop'])
  directory(join(folder, 'open'), BASE)
  directory(join(folder, 'closed'), BASE + 1)
  directory(join(folder, 'closed/in'), BASE + 1)
  writeFileSync(join(folder, 'firsts.yaml'), POLICY)
  const node = []
  const took = []
  for (let at = 0; at <= rounds; at++) {
    const start = performance.now()
    execFileSync(process.execPath, ['-e', '0'], { env: OWN_ENV })
    const own = performance.now() - start
    const times = await round(programs, folder)
    // The first round is for the caches of the machine.
    if (at > 0) node.push(own)
    if (at > 0) took.push(times)
  }
  return Object.entries(GOALS).map(([name, { most, unit }], index) => {
    const ratio = median(took.map((times, at) => (times[index] ?? 0) / (node[at] ?? 1)))
    const ms = median(took.map((times) => times[index] ?? 0))
    return { name, ms, ratio, goal: `${most} ${unit}`, met: (unit === 'N' ? ratio : ms) <= most }
  })
}
