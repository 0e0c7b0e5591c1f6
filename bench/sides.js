// Who answers the calls: nobody (native), the bare C notifier, or the shipped daemon.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OURS } from './report.js'

const START_MS = 10_000
const END_MS = 5_000
const RUN_MS = 120_000

/** Without variables of Node, which may make each of its starts twice as long: NODE_EXTRA_CA_CERTS does. */
export const OWN_ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')))

/** Host ids of the container; its directories must belong to the first one. */
export const BASE = 200_000

/** @typedef {{ medianNs: number, p99Ns: number, perSecond: number, errors: Record<string, number>, calls: number }} Sample */
/** @typedef {{ name: string, run: (loop: readonly string[], container?: readonly string[]) => Promise<Sample> }} Side */

const source = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url))

/** Compiles programs of the tests. @returns their paths in `folder` */
export function compileFixtures(/** @type {string} */ folder, /** @type {readonly string[]} */ names) {
  const flags = ['-O2', '-pthread', `-DFIXTURES="${source('../test/fixtures/')}"`]
  for (const name of names)
    execFileSync('gcc', [...flags, '-o', join(folder, name), source(`../test/fixtures/${name}.c`)])
  return Object.fromEntries(names.map((name) => [name, join(folder, name)]))
}

/** @returns paths of the compiled programs in `folder` */
export function compile(/** @type {string} */ folder) {
  const built = {
    notifier: './notifier.c',
    filtered: '../test/fixtures/filtered.c',
    loop: '../test/fixtures/mknod-loop.c',
  }
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-pthread', `-DFIXTURES="${source('../test/fixtures/')}"`]
  for (const [name, path] of Object.entries(built)) {
    execFileSync('gcc', [...flags, '-o', join(folder, name), source(path)])
  }
  return Object.fromEntries(Object.keys(built).map((name) => [name, join(folder, name)]))
}

/** @returns {Promise<Sample>} what mknod-loop printed */
function measure(/** @type {string} */ program, /** @type {readonly string[]} */ args) {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: RUN_MS }, (error, stdout, stderr) => {
      if (error) reject(new Error(`Cannot measure with "${program} ${args.join(' ')}": ${stderr || error.message}`))
      else resolve(JSON.parse(stdout))
    })
  })
}

/** Starts servers and ends them all, whatever happened in between. */
export class Servers {
  /** @type {import('node:child_process').ChildProcess[]} */
  #children = []

  /** Starts `command` and waits until `socket` is there. @returns its process id */
  async start(/** @type {readonly string[]} */ [program, ...args], /** @type {string} */ socket) {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#children.push(child)
    let said = ''
    child.stderr.on('data', (text) => {
      said = (said + text).slice(-4000)
    })
    for (const end = Date.now() + START_MS; !existsSync(socket); await new Promise((wake) => setTimeout(wake, 20))) {
      if (child.exitCode !== null || child.signalCode)
        throw new Error(`Cannot start "${program} ${args.join(' ')}": ${said}`)
      if (Date.now() > end)
        throw new Error(`Cannot start "${program} ${args.join(' ')}": no socket after ${START_MS} ms`)
    }
    return child.pid ?? 0
  }

  /** Keeps each processor busy, as other programs of a machine do. */
  busy() {
    for (const _ of cpus()) this.#children.push(spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }))
  }

  async stop() {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode) continue
      child.kill('SIGTERM')
      const kill = setTimeout(() => child.kill('SIGKILL'), END_MS)
      await once(child, 'exit')
      clearTimeout(kill)
    }
  }
}

/** @returns {Side} the call itself, by root of the host */
export const native = (programs, name) => ({ name, run: (loop) => measure(programs.loop, loop) })

/** @returns {Side} the call itself, by the container */
export const unfiltered = (programs) => ({
  name: 'native, in the container',
  run: (loop) =>
    measure(programs.filtered, ['-', '--no-filter', '--userns', `${BASE}:65536`, '--', programs.loop, ...loop]),
})

/** Of every container, so that a hand-over need not name a policy. */
const POLICY = 'default: { security.syscalls.intercept.mknod: true, security.syscalls.intercept.sysinfo: true }\n'

/** @returns {Side} the call as an agent answers it that listens at `socket` */
function served(programs, name, socket) {
  const usual = ['--userns', `${BASE}:65536`, '--all-sysinfo', '--await-agent']
  return {
    name,
    run: (loop, container = []) =>
      measure(programs.filtered, [socket, ...usual, ...container, '--', programs.loop, ...loop]),
  }
}

/** @returns {Promise<Side>} */
export async function notifier(programs, servers, folder, name, options) {
  const socket = join(folder, `${name.replaceAll(/\W+/g, '-')}.sock`)
  await servers.start([programs.notifier, socket, ...options], socket)
  return served(programs, name, socket)
}

/**
 * @param {string} [checkout] of which build; this one unless said otherwise
 * @returns {Promise<Side>} the daemon as it is shipped, with its defaults and a policy file; records are always on
 */
export async function intercede(programs, servers, folder, name = OURS, checkout = source('..')) {
  const socket = join(folder, `${name}.sock`)
  const config = join(folder, 'policy.yaml')
  writeFileSync(config, POLICY)
  const main = join(checkout, 'bin/intercede.js')
  await servers.start([process.execPath, main, 'serve', '--socket', socket, '--config', config], socket)
  return served(programs, name, socket)
}
