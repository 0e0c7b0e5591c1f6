// What people wait for is the start: each command beside "node -e 0" of the same run, in wide limits.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { INTERCEDE, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const ROUNDS = 7
/** Without variables of Node, which may make each of its starts twice as long: NODE_EXTRA_CA_CERTS does. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')))

function milliseconds(args: readonly string[], status: number): number {
  const start = performance.now()
  const done = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8', env })
  expect(done.stderr, args.join(' ')).toSatisfy(() => done.status === status)
  return performance.now() - start
}

/**
 * What a start takes at best, as a multiple of "node -e 0" at best. A busy machine has quiet moments, and what takes two
 * processors suffers more from others than what takes one.
 */
function multiple(args: readonly string[], status: number): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    return [milliseconds(['-e', '0'], 0), milliseconds([INTERCEDE, ...args], status)] as const
  })
  return Math.min(...rounds.map(([, own]) => own)) / Math.min(...rounds.map(([node]) => node))
}

test.each([
  { line: '--version', limit: 3 },
  { line: '--help', limit: 3 },
  { line: 'serve --help', limit: 3 },
  { line: 'rnu', limit: 3, status: 2 },
  { line: 'flags podman -c mknod', limit: 4 },
  { line: 'profile -c mknod', limit: 4 },
])('"$line" takes less than $limit times "node -e 0"', ({ line, limit, status = 0 }) => {
  expect(multiple(line.split(' '), status)).toBeLessThan(limit)
})

const why = unable()
test.skipIf(why !== undefined).each([
  { line: 'run -- true', limit: 9 },
  { line: 'run -c mknod -- true', limit: 17 },
  { line: 'run -c mknod -- mknod null c 1 3', limit: 17 },
])(withReason('"$line" takes less than $limit times "node -e 0"', why), ({ line, limit }) => {
  expect(multiple(line.split(' '), 0)).toBeLessThan(limit)
})
