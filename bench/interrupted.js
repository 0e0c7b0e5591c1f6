// npm run bench:interrupted -- [--rounds N] [--count N] [--only WORD]
//
// How many calls a timer of 1 ms ends with EINTR before anybody has received them. One thread, whose handler was set without
// SA_RESTART, makes one mknod, which may wait for what starts, and then N of them, again until each has an answer: with a bare
// C notifier, a daemon that has served ten times as many, a daemon that has just started, and a fresh `run`; interleaved, each the
// median over the rounds with the least and the most. Needs root and gcc. The npm script runs it in a mount namespace of its own.
// On a busy machine `chrt -r 1 npm run bench:interrupted` gives the figures of one that has nothing else to do.
import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmdirSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { BASE, compile, intercede, notifier, Servers } from './sides.js'

const RUN_MS = 120_000
/** As many times the daemon serves the calls before: by then V8 has compiled what they run. */
const WARM_ROUNDS = 10
const INTERCEDE = fileURLToPath(new URL('../bin/intercede.js', import.meta.url))
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    count: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
  },
})

/** @typedef {readonly [first: number, rest: number]} Ended how often the first call, and the others, were ended */

// A file system whose own time is short, and does not depend on what else is in it.
const folder = mkdtempSync('/var/tmp/intercede-bench-')
execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'intercede-bench', folder])
let serial = 0

function compileSignalled() {
  const program = join(folder, 'signalled')
  const source = fileURLToPath(new URL('../test/fixtures/signalled.c', import.meta.url))
  execFileSync('gcc', ['-O2', '-pthread', '-o', program, source])
  chmodSync(program, 0o755)
  return program
}

/** @returns {string} a new directory */
function directory(/** @type {number} */ owner) {
  const path = join(folder, `d${serial++}`)
  mkdirSync(path)
  chownSync(path, owner, owner)
  return path
}

/** @returns {string[]} a command that says how often each of both was ended */
function calls(/** @type {string} */ signalled, /** @type {string} */ path) {
  const of = (count, name) =>
    `mkdir ${path}/${name} && ${signalled} --threads 1 --no-restart --count ${count} ${path}/${name}`
  return ['sh', '-c', `${of(1, 'first')} && ${of(values.count, 'rest')}`]
}

/** @returns {Promise<Ended>} */
function ended(program, args) {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: RUN_MS }, (error, stdout, stderr) => {
      if (error) reject(new Error(`Cannot measure with "${program}": ${stderr || error.message}`))
      else
        resolve(
          stdout
            .trim()
            .split('\n')
            .map((line) => JSON.parse(line).interrupted),
        )
    })
  })
}

/** With servers of their own, which end afterwards. */
async function alone(action) {
  const servers = new Servers()
  try {
    return await action(servers, directory(0))
  } finally {
    await servers.stop()
  }
}

/** @returns {Record<string, () => Promise<Ended>>} */
function sides(programs, warm) {
  const signalled = compileSignalled()
  const contained = (socket) => {
    const container = [socket, '--userns', `${BASE}:65536`, '--await-agent', '--']
    return ended(programs.filtered, [...container, ...calls(signalled, directory(BASE))])
  }
  const own = directory(0)
  // `run` shows no directory with ids of the host that others can reach.
  chmodSync(own, 0o700)
  const binds = ['--bind', signalled, '--bind', `${own}/shown:idmap`]
  return {
    'C notifier': () =>
      alone(async (servers, at) => {
        await notifier(programs, servers, at, 'c', ['--mode', 'mknod'])
        return contained(join(at, 'c.sock'))
      }),
    'daemon, warm': () => contained(warm),
    'daemon, just started': () =>
      alone(async (servers, at) => {
        await intercede(programs, servers, at)
        return contained(join(at, 'intercede.sock'))
      }),
    'fresh run': () => {
      const path = join(own, 'shown', `${serial++}`)
      mkdirSync(path, { recursive: true })
      return ended(process.execPath, [INTERCEDE, 'run', '-c', 'mknod', ...binds, '--', ...calls(signalled, path)])
    },
  }
}

function show(name, samples) {
  const middle = (of) => {
    const sorted = samples.map((sample) => sample[of]).toSorted((a, b) => a - b)
    return `${sorted[sorted.length >> 1]} (${sorted[0]} to ${sorted.at(-1)})`
  }
  console.log(`${name}: the first call ${middle(0)} times, the next ${values.count} ${middle(1)} times`)
}

async function measure(servers) {
  const programs = compile(folder)
  await intercede(programs, servers, folder)
  const all = Object.entries(sides(programs, join(folder, 'intercede.sock')))
  const warm = all.find(([name]) => name === 'daemon, warm')[1]
  for (let round = 0; round < WARM_ROUNDS; round++) await warm()
  const chosen = all.filter(([name]) => name.includes(values.only)).map(([name, side]) => ({ name, side, samples: [] }))
  for (let round = 0; round < Number(values.rounds); round++)
    for (const { side, samples } of chosen) samples.push(await side())
  for (const { name, samples } of chosen) show(name, samples)
  console.log(`load ${loadavg()[0].toFixed(1)}`)
}

const servers = new Servers()
try {
  await measure(servers)
} finally {
  await servers.stop()
  execFileSync('umount', [folder])
  rmdirSync(folder)
}
