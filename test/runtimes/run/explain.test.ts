import { spawn } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { until } from '../../support/host.ts'
import { ended, INTERCEDE, run, running, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { PROMPT, Typist } from '../../support/typist.ts'

/** A number of seconds that no other process sleeps. */
const TIME = `${2_000_000 + process.pid}.5`
const MEM = 'mknod mem c 1 1 2>/dev/null'
const SAYS = 'the device 1:1 is not allowed'
const times = (text: string): number => text.split(SAYS).length - 1

const cannot = unable()
describe.skipIf(cannot)(withReason('intercede run --explain', cannot), () => {
  test('says a reason at once, and at the end only how often it came again', () => {
    const again = run(['-c', 'mknod', '--explain', ...sh(`${MEM}; sleep 1; echo later >&2; ${MEM}`)])
    expect(again.stderr).toMatch(new RegExp(`${SAYS}[\\s\\S]*later\\n[\\s\\S]*2 times: ${SAYS}`))
    expect(times(again.stderr)).toBe(2)
    expect(times(run(['-c', 'mknod', '--explain', ...sh(MEM)]).stderr)).toBe(1)
    expect(times(run(['-c', 'mknod', '--explain', '--quiet', ...sh(`${MEM}; ${MEM}`)]).stderr)).toBe(1)
    expect(run(['-c', 'mknod', ...sh(`${MEM}; sleep 0.5; echo later >&2`)]).stderr).toMatch(
      new RegExp(`^later\\n[\\s\\S]*${SAYS}`),
    )
    expect(run(['--explain', ...sh(MEM)]).stderr).toMatch(/^intercede: no key is on, so no call is intercepted /)
  })

  test('says it on a line of its own of a terminal, while the command goes on', async () => {
    const user = new Typist()
    user.type(`node "${INTERCEDE}" run -c mknod --explain -- sh -c '${MEM}; sleep 30'\n`)
    expect(await user.sees(new RegExp(SAYS))).toMatch(/intercede: mknodat left to the kernel: [^\n]*\r\n/)
    user.type('\x03')
    await user.sees(PROMPT)
    user.hangUp()
  })

  test('passes signals on while nobody reads standard error', async () => {
    const script = `head -c 1000000 /dev/zero >&2 & sleep 0.5; ${MEM}; echo ready; exec sleep ${TIME}`
    const child = spawn(process.execPath, [INTERCEDE, 'run', '-c', 'mknod', '--explain', ...sh(script)])
    await new Promise((resolve) => child.stdout.once('data', resolve))
    child.kill('SIGTERM')
    await until('the command has ended', () => running(TIME).every((pid) => Number(pid) === child.pid))
    child.stderr.resume()
    expect(await ended(child)).toBe(143)
  })
})

test('intercede run --help has exit statuses and examples', () => {
  const { status, stdout } = run(['--help'])
  expect(status).toBe(0)
  for (const text of ['128 + N', '125 ', '126 ', '127 ', '--no-init', '--explain', ':idmap', '--stop-timeout']) {
    expect(stdout).toContain(text)
  }
})
