// How slow this machine is, by which all time limits of tests are multiplied: measured once, or INTERCEDE_SLOWNESS.

import { spawnSync } from 'node:child_process'
import type { Plugin } from 'vitest/config'

/** What the start of Node takes at most on a machine that is quick enough for the limits in the tests. */
const START_MS = 150
/** Beyond that a test that hangs would be found too late. */
const MOST = 30

function measured(): number {
  const times = [1, 2, 3].map(() => {
    const start = performance.now()
    spawnSync(process.execPath, ['--eval', ''])
    return performance.now() - start
  })
  return Math.min(MOST, Math.max(1, Math.min(...times) / START_MS))
}

/** The workers of vitest inherit what its main process, which reads the configuration first, has measured. */
process.env.INTERCEDE_SLOWNESS ??= measured().toFixed(1)
export const SLOWNESS = Number(process.env.INTERCEDE_SLOWNESS)

/** Multiplies what tests and helpers say as `timeout: 60_000`, or behind a function: `}, 60_000)`, or in a line. */
export const slowTimeouts = (): Plugin => ({
  name: 'slow-timeouts',
  enforce: 'pre',
  transform(code, id) {
    if (SLOWNESS === 1 || !/\/test\/.*\.ts$/.test(id)) return undefined
    const slower = code
      .replaceAll(/\btimeout: (\d[\d_]*)/g, `timeout: Math.ceil(${SLOWNESS} * $1)`)
      .replaceAll(/^(\s*\}), (\d+_000)\)/gm, `$1, Math.ceil(${SLOWNESS} * $2))`)
      .replaceAll(/^(\s*)(\d+_000),$/gm, `$1Math.ceil(${SLOWNESS} * $2),`)
    return { code: slower, map: null }
  },
})
