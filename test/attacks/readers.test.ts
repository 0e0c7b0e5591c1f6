// Members of the group intercede read what containers do. Descriptors that they do not take out of a socket count for root,
// net/core/scm.c too_many_unix_fds(): with too many of them no process of root could send one, and calls would fail.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../support/fixtures.ts'
import { type Done, execute, Host, mknodPolicy, until } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc') ?? missing('perl') ?? missing('setpriv')
/** What the engine may have. On a real host it is 65,536, and the flood as much larger. */
const DESCRIPTORS = 600
const FLOOD = 300
const SOMEBODY = 64_123

let host: Host
beforeAll(async () => {
  if (cannot) return
  host = await Host.start({
    ...mknodPolicy,
    mount: { allowed: new Set(['tmpfs']), fuse: new Map(), shift: false, nodev: true },
  })
  // For the group, which this machine need not have.
  chmodSync(host.directory, 0o755)
  chmodSync(host.feedSocket, 0o666)
  await execute('prlimit', ['--pid', String(host.enginePid), `--nofile=${DESCRIPTORS}:`])
})
afterAll(() => host?.close())

const mounted = (): Promise<Done> =>
  host.run(['--mounts', '--pidns'], ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /mnt && echo mounted'])

/** Runs Perl as a user of the host. */
const asUser = (uid: number, script: string): ChildProcess =>
  spawn(
    'setpriv',
    [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'perl', '-MSocket', '-e', script, host.feedSocket],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
const CONNECT = 'socket my $s, AF_UNIX, SOCK_SEQPACKET, 0 or die $!; connect $s, pack_sockaddr_un($ARGV[0])'

/** Connects, and reads nothing, until it is ended. @param uids with each of them in turn, as a list of Perl */
async function flood(count: number, uids: string): Promise<ChildProcess> {
  const script = `$| = 1; my @u = (${uids});
for (1 .. ${count}) { $> = $u[$_ % @u]; ${CONNECT} or die $!; $> = 0; push @s, $s }
select undef, undef, undef, 0.5; print "done"; sleep 100`
  const child = asUser(0, script)
  await once(child.stdout!, 'data')
  return child
}
async function ended(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'close')
}
const keeperFds = (): number => readdirSync('/proc/self/fd').length

/** In a process of its own: the keeper is in this one. */
async function ask(uid: number): Promise<string> {
  const script = `${CONNECT} or die $!; my $answer; recv $s, $answer, 256, 0; print length $answer ? "answered" : "refused"`
  const [said] = (await once(asUser(uid, script).stdout!, 'data')) as [Buffer]
  return said.toString()
}

describe.skipIf(cannot)(withReason('readers', cannot), () => {
  test.each([
    { who: 'a user', uids: String(SOMEBODY) },
    { who: 'a hundred users', uids: '70000 .. 70099' },
  ])('$who who read no answers take no descriptors from calls of containers', async ({ uids }) => {
    expect((await mounted()).stdout).toBe('mounted\n')
    const before = keeperFds()
    const child = await flood(FLOOD, uids)
    try {
      expect(await mounted()).toMatchObject({ stdout: 'mounted\n', stderr: '' })
      expect(await ask(0)).toBe('answered')
      expect(keeperFds() - before).toBeLessThan(80)
    } finally {
      await ended(child)
    }
    await until('what was kept for them is closed', () => keeperFds() <= before + 1)
  })

  test('another user reads beside one who reads no answers, and so does that one after it', async () => {
    const child = await flood(FLOOD, String(SOMEBODY))
    try {
      expect(await ask(SOMEBODY + 1)).toBe('answered')
      expect(await ask(SOMEBODY)).toBe('refused')
    } finally {
      await ended(child)
    }
    expect(await ask(SOMEBODY)).toBe('answered')
  })

  test('whoever connects over and over takes little time of the keeper', async () => {
    const seconds = (): number => (process.cpuUsage().system + process.cpuUsage().user) / 1e6
    const child = asUser(
      SOMEBODY,
      `$| = 1; ${CONNECT} or die $!; print "on"; close $s; for (;;) { ${CONNECT}; close $s }`,
    )
    try {
      await once(child.stdout!, 'data')
      const [cpu, start] = [seconds(), Date.now()]
      await new Promise((resolve) => setTimeout(resolve, 2000))
      expect((seconds() - cpu) / ((Date.now() - start) / 1000)).toBeLessThan(0.2)
      expect(child.exitCode).toBe(null)
    } finally {
      await ended(child)
    }
  })
})
