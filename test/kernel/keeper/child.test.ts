// Processes that are started without a copy of our memory: what they get, and how their end is known.
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { AT_FDCWD, O_RDONLY } from '../../../src/abi/fcntl.ts'
import { dup, passOn, pipe } from '../../../src/kernel/fd.ts'
import { openat, openNothing } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { Child, howEnded, shellStatus, wasKilled } from '../../../src/processes/child.ts'

/** Runs a script of sh to its end. @returns what it has written */
async function outputOf(script: string, env: Record<string, string> = {}): Promise<string> {
  const { read, write } = pipe()
  using from = read
  {
    using to = write
    using nothing = openNothing()
    await new Child(['/bin/sh', '-c', script], { fds: [nothing, to, nothing], env: { PATH: '/usr/bin:/bin', ...env } })
      .ended
  }
  return readFileSync(from.raw, 'utf8')
}

async function endOf(script: string, signal?: NodeJS.Signals): ReturnType<typeof observe> {
  using nothing = openNothing()
  const child = new Child(['/bin/sh', '-c', script], { fds: [nothing, nothing, nothing], env: {} })
  if (signal) child.kill(signal)
  return observe(child)
}

async function observe(child: Child): Promise<{ how: string; status: number; killed: boolean }> {
  const ending = await child.ended
  expect(child.isOver).toBe(true)
  return { how: howEnded(ending), status: shellStatus(ending), killed: wasKilled(ending) }
}

test.each([
  { script: 'exit 0', how: 'ended with status 0', status: 0, killed: false },
  { script: 'exit 7', how: 'ended with status 7', status: 7, killed: false },
  { script: 'kill -TERM $$', how: 'was ended by SIGTERM', status: 143, killed: false },
  { script: 'sleep 60', signal: 'SIGKILL' as const, how: 'was ended by SIGKILL', status: 137, killed: true },
])('a process that does "$script" $how', async ({ script, signal, ...end }) => {
  expect(await endOf(script, signal)).toEqual(end)
})

test('many that end at once are all noticed', async () => {
  const all = await Promise.all(Array.from({ length: 50 }, (_, at) => endOf(`exit ${at}`)))
  expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, (_, at) => at))
})

test('a program that is not there is an error at once', () => {
  using nothing = openNothing()
  expect(() => new Child(['/no/such/program'], { fds: [nothing], env: {} })).toThrow('posix_spawn: ENOENT')
})

test('it gets its environment, the root as its directory, and no other descriptors than the given ones', async () => {
  // One that programs usually inherit.
  using file = openat(AT_FDCWD, cstring('/etc/passwd'), O_RDONLY)
  using leak = dup(file, 60)
  passOn(leak.raw)
  expect(await outputOf('echo "$WORD $(pwd)"; ls -l /proc/$$/fd | grep -c passwd', { WORD: 'ä' })).toBe('ä /\n0\n')
})

test('it ignores no signal, blocks none, and is in a session of its own', async () => {
  // Node ignores SIGPIPE.
  const said = await outputOf('grep -E "^Sig(Ign|Blk)" /proc/self/status; cut -d" " -f6 /proc/$$/stat; echo $$')
  const [blocked, ignored, session, pid] = said.trim().split('\n')
  expect([blocked, ignored]).toEqual(['SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000'])
  expect(session).toBe(pid)
})
