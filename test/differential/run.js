// npm run differential -- [--call mknod|setxattr|sched] [--cases N] [--seed S]: as the tests, with the call, as many cases
// and the seed that you want.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: { call: { type: 'string' }, cases: { type: 'string' }, seed: { type: 'string' } },
})
const env = {
  ...process.env,
  DIFFERENTIAL_CASES: values.cases ?? '20000',
  DIFFERENTIAL_SEED: values.seed ?? String(Date.now() % 1_000_000),
}
const files = values.call === undefined ? [] : [`test/differential/${values.call}.test.ts`]
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'differential', ...files], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
