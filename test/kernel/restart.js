// npm run restart -- [--kills N]: as the test, with so many kills of the engine.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { kills: { type: 'string', default: '500' } } })
const env = { ...process.env, INTERCEDE_KILLS: values.kills }
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'kernel', 'test/kernel/restart.test.ts'], {
  env,
  stdio: 'inherit',
})
process.exitCode = status ?? 1
