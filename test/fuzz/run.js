// npm run fuzz -- [--minutes N | --seconds N] [--seed S]: as the tests, for as long and with the seed that you want; each
// minute is a container of its own, with the next seed, which says with which runtime and whether others share its namespaces.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: { minutes: { type: 'string' }, seconds: { type: 'string' }, seed: { type: 'string' } },
})
const env = {
  ...process.env,
  FUZZ_SECONDS: values.seconds ?? String(60 * Number(values.minutes ?? '10')),
  FUZZ_SEED: values.seed ?? String(Date.now() % 1_000_000),
}
console.log(`seed ${env.FUZZ_SEED}, ${env.FUZZ_SECONDS} s`)
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'fuzz'], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
