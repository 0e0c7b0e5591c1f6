// npm run fidelity [-- --write]: makes the cases of test/fidelity/ and compares them with docs/guide/fidelity.md, or writes it.
import { spawnSync } from 'node:child_process'

const words = process.argv.slice(2)
if (words.some((word) => word !== '--write')) {
  console.error('fidelity: unknown option\nusage: npm run fidelity [-- --write]')
  process.exit(2)
}
const env = { ...process.env, FIDELITY_WRITE: words.length > 0 ? '1' : '0' }
const { status } = spawnSync('npx', ['vitest', 'run', 'test/fidelity'], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
