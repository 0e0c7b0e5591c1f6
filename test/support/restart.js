// npm run restart -- [--kills N] [--keeper N]: as the tests, with so many kills of the engine, or restarts of the service.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { kills: { type: 'string', default: '500' }, keeper: { type: 'string' } } })
const env = { ...process.env, INTERCEDE_KILLS: values.kills, INTERCEDE_RESTARTS: values.keeper }
const file =
  values.keeper === undefined ? 'test/kernel/keeper/restart.test.ts' : 'test/runtimes/systemd/service.test.ts'
const { status } = spawnSync('npx', ['vitest', 'run', file], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
