// npm run fuzz -- [--minutes N | --seconds N] [--seed S]: as the tests, for as long and with the seed that you want; each
// minute is a container of its own, with the next seed, which says with which runtime and whether others share its namespaces.
// npm run fuzz -- --attacks [--minutes N]: all of test/attacks again and again, each beside another container of the same
// engine, and what that one got.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
    attacks: { type: 'boolean', default: false },
  },
})
const seconds = values.seconds ?? String(60 * Number(values.minutes ?? '10'))

function vitest(project, added) {
  const { status } = spawnSync('npx', ['vitest', 'run', '--project', project], {
    env: { ...process.env, ...added },
    stdio: 'inherit',
  })
  return status ?? 1
}

function fuzz() {
  const seed = values.seed ?? String(Date.now() % 1_000_000)
  console.log(`seed ${seed}, ${seconds} s`)
  return vitest('fuzz', { FUZZ_SECONDS: seconds, FUZZ_SEED: seed })
}

const milliseconds = (nanoseconds) => (nanoseconds / 1e6).toFixed(2)
const middle = (of) => of.toSorted((a, b) => a - b)[Math.trunc(of.length / 2)]

/** A line for each file of attacks: what the other container got in all rounds. */
function report(lines) {
  for (const file of new Set(lines.map(({ test }) => test).sort())) {
    const all = lines.filter(({ test }) => test === file)
    const batches = all.flatMap((line) => line.batches)
    const calls = batches.reduce((sum, batch) => sum + batch.calls, 0)
    const errors = batches.flatMap((batch) => Object.entries(batch.errors)).map(([name, count]) => `${count} ${name}`)
    const times = ['medianNs', 'p99Ns'].map((name) => milliseconds(middle(batches.map((batch) => batch[name])) ?? 0))
    const worst = milliseconds(Math.max(0, ...batches.map(({ maxNs }) => maxNs)))
    const engines = all.reduce((sum, line) => sum + line.engines, 0)
    console.log(
      [basename(file).padEnd(32), calls, ...times, worst, engines, errors.join(', ') || 'all done'].join('\t'),
    )
  }
  return lines.flatMap(({ batches }) => batches).some(({ errors }) => Object.keys(errors).length > 0)
}

function attacks() {
  const scratch = mkdtempSync(join(tmpdir(), 'intercede-attacks-'))
  const INTERCEDE_BYSTANDER = join(scratch, 'lines')
  let failed = false
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; )
    failed = vitest('attacks', { INTERCEDE_BYSTANDER }) !== 0 || failed
  const text = existsSync(INTERCEDE_BYSTANDER) ? readFileSync(INTERCEDE_BYSTANDER, 'utf8') : ''
  rmSync(scratch, { recursive: true })
  console.log('test\tcalls\tmedian, p99, worst in ms\tengines that ended\terrors')
  return report(
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ) || failed
    ? 1
    : 0
}

process.exitCode = values.attacks ? attacks() : fuzz()
