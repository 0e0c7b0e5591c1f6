// What a container can do to the descriptor, the context and the engine while a bpffs is described and made.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { devicePrograms, Host } from '../support/host.ts'
import { endEngine } from '../support/mounters.ts'
import { lacks, withReason } from '../support/skipped.ts'

const cannot = missing('gcc') ?? lacks('bpfTokens')

describe.skipIf(cannot)(withReason('a bpffs that delegates', cannot), () => {
  let host: Host
  beforeAll(async () => {
    host = await Host.start({ bpf: { ...devicePrograms, devices: false, delegateCmds: new Set(['prog_load']) } })
  })
  afterAll(() => host?.close())

  const tricks = (...words: readonly string[]): Promise<readonly string[]> => tricksIn([], words)
  async function tricksIn(options: readonly string[], words: readonly string[]): Promise<readonly string[]> {
    const { stdout, stderr } = await host.run(
      ['--mounts', '--bpf', ...options],
      ['unshare', '--mount', fixture('token-tricks'), ...words],
    )
    expect(stderr).toBe('')
    return stdout.trim().split('\n')
  }

  // A debugfs takes any option, and only root of the host may make one.
  test('while a context of debugfs takes the place of the descriptor, only a bpffs is ever made', async () => {
    const said = await tricks('race', '300')
    expect(said.join('\n')).not.toContain('other')
    expect(said.join('\n')).toMatch(/times create: ok/)
  })

  test('a thread with descriptors of its own is served', async () => {
    expect(await tricks('threaded')).toEqual(['1 times set: ok', '1 times create: ok', '1 times fsmount: ok'])
  })

  // In the child, where everybody may have all capabilities, a token would let a program read all memory of the kernel.
  test.each(['parent', 'child'])(
    'the context of a child user namespace gives no token, neither there nor in the container: %s',
    async (who) => {
      expect(await tricks('nested', who)).toEqual(['1 times set: ok', '1 times create: ok', '1 times token: EPERM'])
    },
  )

  test('an option has at most 255 bytes', async () => {
    expect(await tricks('long')).toEqual(['1 times 255 bytes: ok', '1 times 256 bytes: EINVAL'])
  })

  test.each([
    { what: 'that cancel calls', options: ['--no-killable'] },
    { what: 'that wait', options: [] },
  ])('signals $what change nothing', async ({ options }) => {
    const said = await tricksIn(options, ['signals', '100'])
    expect(said).toEqual(['100 times set: ok', '100 times create: ok', '100 times fsmount: ok'])
  })

  test('engines that end at any moment change nothing', async () => {
    const storm = tricks('storm', '300')
    for (let count = 0; count < 6; count++) {
      await new Promise((resolve) => setTimeout(resolve, 150))
      await endEngine(host)
    }
    host.mayLoseEngine = true
    expect(await storm).toEqual(['300 times set: ok', '300 times create: ok', '300 times fsmount: ok'])
  }, 60_000)
})
