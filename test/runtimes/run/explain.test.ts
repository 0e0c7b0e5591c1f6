import { describe, expect, test } from 'vitest'
import { ended, INTERCEDE, run, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { Typist } from '../../support/typist.ts'

const MEM = 'mknod mem c 1 1 2>/dev/null'
const SAYS = 'the device 1:1 is not allowed'
const times = (text: string): number => text.split(SAYS).length - 1

const cannot = unable()
describe.skipIf(cannot)(withReason('intercede run --explain', cannot), () => {
  test('says a reason at once, and at the end only how often it came again', () => {
    const again = run(['-c', 'mknod', '--explain', ...sh(`${MEM}; sleep 1; echo later >&2; ${MEM}`)])
    expect(again.stderr).toMatch(new RegExp(`${SAYS}[^]*later\\n[^]*2 times: ${SAYS}`))
    expect(times(again.stderr)).toBe(2)
    expect(times(run(['-c', 'mknod', '--explain', ...sh(MEM)]).stderr)).toBe(1)
    expect(times(run(['-c', 'mknod', '--explain', '--quiet', ...sh(`${MEM}; ${MEM}`)]).stderr)).toBe(1)
    expect(run(['-c', 'mknod', ...sh(`${MEM}; sleep 0.5; echo later >&2`)]).stderr).toMatch(
      new RegExp(`^later\\n[^]*${SAYS}`),
    )
  })

  test('says it on a line of its own of a terminal, while the command goes on', async () => {
    const user = new Typist()
    user.type(`node ${INTERCEDE} run -c mknod --explain -- sh -c '${MEM}; sleep 30'\n`)
    expect(await user.sees(new RegExp(SAYS))).toMatch(/intercede: mknodat left to the kernel: [^\n]*\r\n/)
    user.type('\x03')
    user.type('echo at the she""ll\n')
    await user.sees(/at the shell/)
    user.hangUp()
  })

  test('does not wait for a reader of standard error', async () => {
    const child = await start(['-c', 'mknod', '--explain', ...sh(`${MEM}; echo ready; exit 3`)])
    expect(await ended(child)).toBe(3)
  })
})

test('intercede run --help has exit statuses and examples', () => {
  const { status, stdout } = run(['--help'])
  expect(status).toBe(0)
  for (const text of ['128 + N', '125 ', '126 ', '127 ', '--no-init', '--explain', ':idmap', '--stop-timeout']) {
    expect(stdout).toContain(text)
  }
})
