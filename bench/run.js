// npm run bench -- [--rounds N] [--count N] [--only WORD] [--without-intercede] [--beside CHECKOUT] [--busy]
//   [--cold | --footprint] [--write-docs]
//
// Measures, in one run and interleaved so that the machine's mood is the same for all: the native call, the bare C
// notifier (notifier.c) and the shipped daemon. Prints ratios and medians over the rounds; every sample goes to
// bench/out/*.json, with --write-docs the table and a plot to docs/performance.*. --beside measures another build beside
// this one, --busy all of them while a loop runs on each processor. With --cold it measures starts instead (cold.js,
// firsts.js), with --footprint memory and threads (footprint.js). Needs root and gcc. The npm script runs it in a mount namespace
// of its own, so no mount outlives it. On a busy machine `chrt -r 1 npm run bench` gives the figures of one with nothing else to do.
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cold, coldSection, coldTable } from './cold.js'
import { measureFirsts } from './firsts.js'
import { footprintSection, footprintTable, measureFootprints } from './footprint.js'
import { journalCost } from './journal.js'
import { writeDocs, writePart } from './page.js'
import { OURS, summarize, table } from './report.js'
import { BASE, compile, intercede, native, notifier, Servers, unfiltered } from './sides.js'

const NATIVE = 'native, host root'
const C = 'C notifier'
const C_SLOW = 'C notifier, no wake-up flag'
const C_SYSINFO = 'C notifier, sysinfo'
const C_MKNOD = 'C notifier, mknod'
const C_SCHED = 'C notifier, sched_setscheduler'
const C_SETXATTR = 'C notifier, setxattr'
const C_MKNOD_4 = 'C notifier, mknod, 4 threads'
const BESIDE = 'intercede-beside'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '15' },
    count: { type: 'string', default: '2000' },
    only: { type: 'string', default: '' },
    cold: { type: 'boolean', default: false },
    footprint: { type: 'boolean', default: false },
    beside: { type: 'string' },
    busy: { type: 'boolean', default: false },
    'without-intercede': { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
  },
})
const rounds = Number(options.rounds)
const count = Number(options.count)

const READING = ['setxattr', 'setxattr.read'].map((key) => `security.syscalls.intercept.${key}=true`).join('\n')

/** A directory of the container on the file system of `path`. */
function directory(path) {
  mkdirSync(path)
  chownSync(path, BASE, BASE)
  return path
}

function mountTmpfs(path) {
  mkdirSync(path)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=64m,mode=755,uid=${BASE},gid=${BASE}`, 'intercede-bench', path])
  return path
}

const UNIFIED = execFileSync('findmnt', ['-nro', 'TARGET', '-t', 'cgroup2'], { encoding: 'utf8' }).trim().split('\n')[0]
const GROUP = `${UNIFIED}/intercede-bench-${process.pid}`
const PROGRAMS = ['bpf', 'bpf.devices'].map((key) => `security.syscalls.intercept.${key}=true`).join('\n')

const fileSystemOf = (path) => execFileSync('findmnt', ['-no', 'FSTYPE', '-T', path], { encoding: 'utf8' }).trim()

/**
 * What is measured: `loop` is the command line of mknod-loop, `container` what its container is beyond the usual, `fails`
 * the errno that every call must end with.
 */
function benches(programs, servers, tmpfs, disk) {
  const loop = (path, ...more) => ['--count', `${count}`, ...more, join(path, 'node')]
  const atMost = (times, side, words = 'the C notifier that does the same') => ({
    text: `at most ${times} x ${words}`,
    met: ({ ratio }) => ratio(side) <= times,
  })
  return [
    {
      name: 'passed on: mknod of a device that is not allowed',
      unit: 'us',
      fails: 'EPERM',
      loop: loop(tmpfs, '--device', '1:1'),
      sides: [unfiltered(programs), servers[C], servers[C_SLOW], servers[OURS], servers[BESIDE]],
      goal: atMost(1.5, C, 'the C notifier'),
    },
    {
      name: 'sysinfo',
      unit: 'us',
      loop: loop(tmpfs, '--call', 'sysinfo'),
      sides: [unfiltered(programs), servers[C], servers[C_SYSINFO], servers[OURS], servers[BESIDE]],
      goal: atMost(1.25, C_SYSINFO),
    },
    ...[tmpfs, disk].map((path) => ({
      name: `mknod of 1:3 on ${fileSystemOf(path)}`,
      unit: 'us',
      loop: loop(path),
      sides: [native(programs, NATIVE), servers[C_MKNOD], servers[OURS], servers[BESIDE]],
      goal: atMost(1.25, C_MKNOD),
    })),
    ...[tmpfs, disk].map((path) => ({
      name: `setxattr of trusted.overlay.opaque on ${fileSystemOf(path)}`,
      unit: 'us',
      loop: loop(path, '--call', 'setxattr'),
      container: ['--xattr', '--metadata', 'security.syscalls.intercept.setxattr=true'],
      sides: [native(programs, NATIVE), servers[C_SETXATTR], servers[OURS], servers[BESIDE]],
      goal: atMost(1.25, C_SETXATTR),
    })),
    {
      name: 'passed on: getxattr of another attribute, with setxattr.read',
      unit: 'us',
      fails: 'ENODATA',
      loop: loop(tmpfs, '--call', 'getxattr'),
      container: ['--xattr', '--metadata', READING],
      sides: [unfiltered(programs), servers[C], servers[OURS], servers[BESIDE]],
      goal: atMost(1.8, C, 'the C notifier, which does not look at memory'),
    },
    {
      name: 'sched_setscheduler of another process',
      unit: 'us',
      loop: ['--count', `${count}`, '--call', 'sched'],
      container: ['--pidns', '--sched', '--metadata', 'security.syscalls.intercept.sched_setscheduler=true'],
      sides: [native(programs, NATIVE), servers[C_SCHED], servers[OURS], servers[BESIDE]],
      goal: atMost(1.25, C_SCHED),
    },
    {
      name: 'bpf: loading a device program of 25 instructions',
      unit: 'us',
      loop: ['--count', `${count}`, '--call', 'bpf'],
      container: ['--bpf', '--cgroup', GROUP, '--metadata', PROGRAMS],
      sides: [native(programs, NATIVE), servers[OURS], servers[BESIDE]],
      goal: atMost(3, NATIVE, 'native'),
    },
    {
      name: `eight processes at once: mknod of 1:3 on ${fileSystemOf(disk)}`,
      unit: 'calls/s',
      loop: loop(disk, '--processes', '8'),
      sides: [native(programs, NATIVE), servers[C_MKNOD], servers[C_MKNOD_4], servers[OURS], servers[BESIDE]],
      goal: {
        text: 'at least 0.75 of the better C notifier',
        met: ({ ratio }) => Math.min(ratio(C_MKNOD), ratio(C_MKNOD_4)) >= 0.75,
      },
    },
  ]
}

/** Another build, with its sockets in a folder of their own. */
function beside(programs, servers, folder, checkout) {
  const own = join(folder, 'beside')
  mkdirSync(own)
  return intercede(programs, servers, own, BESIDE, checkout)
}

async function startSides(programs, servers, folder) {
  const start = (name, ...args) => notifier(programs, servers, folder, name, args)
  return {
    [C]: await start(C),
    [C_SLOW]: await start(C_SLOW, '--no-wake-up'),
    [C_SYSINFO]: await start(C_SYSINFO, '--mode', 'sysinfo'),
    [C_MKNOD]: await start(C_MKNOD, '--mode', 'mknod'),
    [C_SCHED]: await start(C_SCHED, '--mode', 'sched'),
    [C_SETXATTR]: await start(C_SETXATTR, '--mode', 'setxattr'),
    [C_MKNOD_4]: await start(C_MKNOD_4, '--mode', 'mknod', '--threads', '4'),
    ...(options['without-intercede'] ? {} : { [OURS]: await intercede(programs, servers, folder) }),
    ...(options.beside ? { [BESIDE]: await beside(programs, servers, folder, options.beside) } : {}),
  }
}

/**
 * One after the other within a round, so that a slow minute of the machine hits every side. The first round is for JIT
 * compilers and caches and does not count.
 */
async function interleave({ name, unit, loop, container, fails, sides, goal }) {
  const samples = new Map(sides.filter(Boolean).map((side) => [side.name, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const side of sides.filter(Boolean)) {
      const sample = await side.run(loop, container)
      const expected = fails ? { [fails]: sample.calls } : {}
      if (JSON.stringify(sample.errors) !== JSON.stringify(expected)) {
        throw new Error(
          `Cannot measure "${name}" of ${side.name}: calls ended with ${JSON.stringify(sample.errors)} instead of ${JSON.stringify(expected)}`,
        )
      }
      if (round > 0) samples.get(side.name).push(sample)
    }
  }
  return { name, unit, goal, sides: samples }
}

/** What a reader must know to compare. */
/** With a real-time priority the figures are those of a machine that has nothing else to do. */
const priority = () =>
  /^policy +: +[12]$/m.test(readFileSync('/proc/self/sched', 'utf8')) ? { priority: 'of chrt -r 1' } : {}
const machine = (loadBefore) => ({
  date: new Date().toISOString().slice(0, 10),
  kernel: release(),
  node: process.version,
  processors: `${cpus().length} x ${cpus()[0]?.model}`,
  'load before': loadBefore.toFixed(2),
  'load after': loadavg()[0].toFixed(2),
  ...priority(),
  rounds,
})
const facts = (loadBefore) => ({
  ...machine(loadBefore),
  count,
  'the journal costs': `${journalCost().toFixed(2)} us a call (goal: under 0.5)`,
})

function save(results, machine) {
  const out = fileURLToPath(new URL('./out/', import.meta.url))
  mkdirSync(out, { recursive: true })
  const path = join(out, `${new Date().toISOString().replaceAll(':', '-')}.json`)
  writeFileSync(path, `${JSON.stringify({ machine, benches: results }, null, 1)}\n`)
  return path
}

function tell(results, machine) {
  console.log(
    Object.entries(machine)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  )
  console.log(table(results))
  console.log(`\nEvery sample: ${save(results, machine)}`)
  if (options['write-docs']) writeDocs(results, machine)
}

/** Ends and removes what is there by now. Calls that were interrupted are made to the end yet. */
async function removeAll(/** @type {Servers} */ servers, /** @type {string} */ folder, /** @type {string} */ tmpfs) {
  await servers.stop()
  if (existsSync(GROUP)) {
    for (let tries = 0; readFileSync(`${GROUP}/cgroup.procs`, 'utf8') !== '' && tries < 50; tries++) await sleep(100)
    rmdirSync(GROUP)
  }
  try {
    execFileSync('umount', ['--lazy', tmpfs], { stdio: 'ignore' })
  } catch {} // it was not mounted yet
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
}

/** Measures starts instead of calls. */
async function measureCold(
  /** @type {Servers} */ servers,
  /** @type {string} */ folder,
  /** @type {number} */ loadBefore,
) {
  await intercede({}, servers, folder)
  const starts = cold(folder, join(folder, 'intercede.sock'), rounds)
  const rows = [...starts, ...(await measureFirsts(folder, rounds))]
  const where = machine(loadBefore)
  console.log(coldTable(rows))
  console.log(`\nEvery median: ${save(rows, where)}`)
  if (options['write-docs']) writePart('starts', coldSection(rows, where))
}

/** Measures memory and threads instead of calls. */
async function measureIdle(/** @type {string} */ folder, /** @type {number} */ loadBefore) {
  const rows = await measureFootprints(folder, rounds)
  const where = machine(loadBefore)
  console.log(footprintTable(rows))
  console.log(`\nEvery median: ${save(rows, where)}`)
  if (options['write-docs']) writePart('footprints', footprintSection(rows, where))
}

async function main() {
  if (process.getuid?.() !== 0) throw new Error('Cannot measure: this needs root')
  // Not /tmp, which is a tmpfs on many machines.
  const folder = mkdtempSync('/var/tmp/intercede-bench-')
  const servers = new Servers()
  const [loadBefore] = loadavg()
  const tmpfs = join(folder, 'tmpfs')
  /** @type {Promise<void> | undefined} */
  let cleaned
  const cleanUp = () => {
    cleaned ??= removeAll(servers, folder, tmpfs)
    return cleaned
  }
  const abort = () => cleanUp().finally(() => process.exit(130))
  process.once('SIGINT', abort).once('SIGTERM', abort)
  try {
    chmodSync(folder, 0o755)
    if (options.cold) {
      await measureCold(servers, folder, loadBefore)
      return
    }
    if (options.footprint) {
      await measureIdle(folder, loadBefore)
      return
    }
    const programs = compile(folder)
    mountTmpfs(tmpfs)
    mkdirSync(GROUP)
    const sides = await startSides(programs, servers, folder)
    if (options.busy) servers.busy()
    const measured = []
    const all = benches(programs, sides, tmpfs, directory(join(folder, 'disk')))
    for (const bench of all.filter(({ name }) => name.includes(options.only))) {
      process.stderr.write(`${bench.name} ...\n`)
      measured.push(await interleave(bench))
    }
    tell(summarize(measured), facts(loadBefore))
  } finally {
    await cleanUp()
  }
}

main().catch((error) => {
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = 1
})
