// npm run differential -- [--call mknod|setxattr|sched|rlimits] [--cases N] [--seed S]: as the tests, with the call, as many cases
// and the seed that you want.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const CALLS = ['mknod', 'setxattr', 'sched', 'rlimits']

function options() {
  const { values } = parseArgs({
    options: { call: { type: 'string' }, cases: { type: 'string' }, seed: { type: 'string' } },
  })
  if (values.call !== undefined && !CALLS.includes(values.call)) throw new Error(`--call is one of ${CALLS.join(', ')}`)
  for (const name of ['cases', 'seed']) {
    if (values[name] !== undefined && !/^[1-9]\d{0,8}$/.test(values[name]))
      throw new Error(`--${name} is a number from 1 on`)
  }
  return values
}

let values
try {
  values = options()
} catch (error) {
  console.error(
    `differential: ${error.message}\nusage: npm run differential -- [--call mknod|setxattr|sched|rlimits] [--cases N] [--seed S]`,
  )
  process.exit(2)
}
const env = {
  ...process.env,
  DIFFERENTIAL_CASES: values.cases ?? '20000',
  DIFFERENTIAL_SEED: values.seed ?? String(Date.now() % 1_000_000),
}
const files = values.call === undefined ? [] : [`test/differential/${values.call}.test.ts`]
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'differential', ...files], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
