// What a container can do to the descriptor, the context and the engine while a bpffs is described and made.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, devicePrograms, directory, execute, Host, until } from '../support/host.ts'
import { endEngine } from '../support/mounters.ts'
import { lacks, withReason } from '../support/skipped.ts'

const PYTHON = `
import array, ctypes, os, socket, sys
call = ctypes.CDLL(None).syscall
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
s = socket.socket(socket.AF_UNIX)
`
const OPENS = `
os.setgid(54321); os.setuid(54321)
ctypes.CDLL(None).unshare(0x10020000)
fd = call(FSOPEN, b"bpf", 0)
s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); s.listen(1)
open(os.path.dirname(sys.argv[1]) + "/ready", "w").close()
c, _ = s.accept()
socket.send_fds(c, [b"c"], [fd])
c.recv(1)
print(call(FSMOUNT, fd, 0, 0))
`
const DESCRIBES = `
s.connect(sys.argv[1])
fd = socket.recv_fds(s, 1, 1)[1][0]
print(call(FSCONFIG, fd, 1, b"delegate_cmds", b"prog_load", 0), call(FSCONFIG, fd, 6, None, None, 0))
s.send(b"m")
`

const cannot = missing('gcc', 'python3') ?? lacks('bpfTokens')

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

  test('a context that a user of the host has opened is not served', async () => {
    const place = directory(join(host.directory, 'passed'), BASE, 0o777)
    const socket = join(place, 'socket')
    const outer = execute('python3', ['-c', PYTHON + OPENS, socket])
    await until('the context is there', () => existsSync(join(place, 'ready')))
    const { stdout, stderr } = await host.run(['--mounts', '--bpf'], ['python3', '-c', PYTHON + DESCRIBES, socket])
    expect([stdout, stderr, (await outer).stdout]).toEqual(['-1 -1\n', '', '-1\n'])
  })

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

  // The kernel would say EINVAL to the first, whose descriptor is none of a bpffs.
  test('while no engine can be started, no token is made, and none is used', async () => {
    host.mayLoseEngine = true
    const script = `sleep 6; exec ${fixture('call-steps')} bpf 36 p:8 8 , bpf 0 p:8 8`
    const container = host.run(['--bpf'], ['sh', '-c', script])
    const isPassing = (): boolean => host.events.some((event) => event.type === 'engineEnded' && event.pause > 0)
    while (!isPassing()) {
      const pid = host.maybeEnginePid
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    expect((await container).stdout).toBe('EPERM, EPERM\n')
    await until('both are recorded', () => {
      host.drain()
      return host.records.filter(({ reason, verdict }) => reason === 'noEngine' && verdict === 'errno').length === 2
    })
  }, 60_000)
})
