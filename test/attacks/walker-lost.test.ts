/**
 * A caller with so many groups that a request to the walker is too large (linux/net/unix/af_unix.c unix_dgram_sendmsg() EMSGSIZE),
 * or larger than it reads: twice so, and the container had no walker for life.
 */
import { chmodSync, chownSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, Host } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'python3')
const EXECUTE = 'import os, sys; os.setgroups(range(int(sys.argv[1]))); os.execv(sys.argv[2], sys.argv[2:])'

let host: Host
let closed: string

beforeAll(async () => {
  if (cannot) return
  host = await Host.start()
  closed = join(host.directory, 'closed')
  for (const path of [closed, join(closed, 'in')]) {
    mkdirSync(path)
    chownSync(path, BASE + 1, BASE + 1)
    chmodSync(path, 0o700)
  }
})
afterAll(() => host?.close())

test.skipIf(cannot).each([20_000, 60_000])(
  withReason('with %i groups its call is left to the kernel, and the next one is served', cannot),
  async (groups) => {
    const name = join(closed, 'in', `${groups}`)
    const few = (which: string): string => `${fixture('caller')} mknod ${name}-${which} 020666 1 3`
    const many = `python3 -c '${EXECUTE}' ${groups} ${few('many')}`
    const { stdout } = await host.run(
      ['--pidns'],
      ['sh', '-c', [few('first'), many, many, many, few('last')].join('\n')],
    )
    const [made, left] = ['{"ok":true}', '{"errno":"EPERM"}']
    expect(stdout.trimEnd().split('\n')).toEqual([made, left, left, left, made])
    expect(readdirSync(join(closed, 'in')).filter((entry) => entry.startsWith(`${groups}`))).toHaveLength(2)
  },
)
