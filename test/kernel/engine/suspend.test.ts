import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { EPOLLERR } from '../../../src/abi/socket.ts'
import { JOURNAL_SIZE } from '../../../src/link/journal.ts'
import { withoutCgroups } from '../../support/bpf-world.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, USERNS, until } from '../../support/host.ts'
import { Load, policy, sleep } from '../../support/restart-world.ts'
import { withReason } from '../../support/skipped.ts'
import { Strace } from '../../support/strace.ts'

const OUT = new URL('../../../out/', import.meta.url).href
const FREEZES = 20
/** Half of what the keeper takes for an engine that hangs. */
const STOPPED_MS = 5000
/** The word `events` of a struct epoll_event, as bytes. */
const ERROR = Buffer.from(Uint32Array.of(EPOLLERR).buffer).toString('hex')

/** Runs the load while `disturb` does what it does: every call must return what it must. */
async function undisturbed(disturb: (host: Host, load: Load) => Promise<void>): Promise<void> {
  const host = await Host.start(policy)
  const load = new Load(host, 'load')
  try {
    await until(
      'calls are served',
      () => {
        host.drain()
        return host.records.length > 100
      },
      60,
    )
    const engine = host.enginePid
    await disturb(host, load)
    const said = await load.end()
    console.log(said)
    expect(said.failures).toEqual({})
    expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
    expect(host.enginePid).toBe(engine)
    expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
  } finally {
    await load.kill()
    host.close()
  }
}

const why = withoutCgroups()

test.skipIf(why)(
  withReason('a container that is frozen and thawed in the middle of calls goes on', why),
  { timeout: 180_000 },
  () =>
    undisturbed(async (_, load) => {
      let complete = 0
      // Once for longer than what of ours may be in its group is given to answer.
      for (const milliseconds of [5000, ...Array<number>(FREEZES).fill(50)]) {
        if (await load.freeze(milliseconds)) complete++
        await sleep(Math.random() * 100)
      }
      console.log(`${complete} of ${FREEZES + 1} freezes were complete`)
      expect(complete).toBeGreaterThan(0)
    }),
)

test('an engine that is stopped for five seconds goes on, and so do its containers', { timeout: 180_000 }, () =>
  undisturbed(async ({ enginePid }) => {
    process.kill(enginePid, 'SIGSTOP')
    await sleep(STOPPED_MS)
    process.kill(enginePid, 'SIGCONT')
    await sleep(500)
  }),
)

test('an answer that a stop interrupts in the kernel is given again', { timeout: 60_000 }, async () => {
  const host = await Host.start()
  const mknod = (name: string) => host.call(['mknod', join(host.directory, name), '020666', '1', '3'])
  try {
    expect(await mknod('before')).toMatchObject({ result: 'ok' })
    const output = join(host.directory, 'strace')
    const injects = ['-e', 'trace=ioctl', '-e', 'inject=ioctl:error=EINTR:when=2+2']
    const strace = await Strace.attach(host.enginePid, [...injects, '-o', output])
    try {
      for (let call = 0; call < 10; call++) expect(await mknod(`at-${call}`)).toMatchObject({ result: 'ok' })
      expect(await host.call(['mknod', join(host.directory, 'mem'), '020666', '1', '1'])).toMatchObject({
        result: 'EPERM',
      })
    } finally {
      await strace.end()
    }
    expect(readFileSync(output, 'latin1')).toContain('(INJECTED')
    expect(host.events.filter(({ type }) => type === 'fault')).toEqual([])
  } finally {
    host.close()
  }
})

/**
 * A stop, a freeze or a tracer may interrupt the wait for the filter's lock in poll(2) as well, which tells it as EPOLLERR
 * (kernel/seccomp.c seccomp_notify_poll()): 3,000 of 2 million looks under a flood of SIGSTOP, where the lock was fought for.
 */
test('a look at a listener that a stop interrupts does not end it', { timeout: 60_000 }, async () => {
  const host = await Host.start()
  const mknod = (name: string) => host.call(['mknod', join(host.directory, name), '020666', '1', '3'])
  try {
    expect(await mknod('before')).toMatchObject({ result: 'ok' })
    const inject = `inject=/^epoll_p?wait$:poke_exit=@arg2=${ERROR}:when=1+2`
    const output = join(host.directory, 'strace')
    const injects = ['-e', 'trace=/^epoll_p?wait$', '-e', inject]
    const strace = await Strace.attach(host.enginePid, [...injects, '-o', output])
    try {
      for (let call = 0; call < 10; call++) expect(await mknod(`at-${call}`)).toMatchObject({ result: 'ok' })
    } finally {
      await strace.end()
    }
    expect(readFileSync(output, 'latin1')).toContain('(INJECTED')
    expect(host.events.filter(({ type }) => type === 'fault')).toEqual([])
  } finally {
    host.close()
  }
})

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

test('a keeper that passes calls on does not wait for a call that is not there', async () => {
  const host = await Host.start()
  const options = ['--userns', USERNS, '--await-agent', '--', 'sleep', 'infinity']
  const idle = spawn(fixture('filtered'), [host.socket, ...options], { stdio: 'ignore' })
  try {
    await until('it is registered', () => host.events.some(({ type }) => type === 'registered'))
    // The keeper is in this process; as above, its reactor is told that there is something.
    const isListener = (fd: string): boolean => linkOf(fd) === 'anon_inode:seccomp notify'
    const listener = Number(readdirSync('/proc/self/fd').find(isListener))
    const passes = `
      const [{ PassThrough }, { Slots }, { Fd }, { countsSize, formatCounts }, { formatRecords, recordsSize }] = await Promise.all(
        ['keeper/containers/pass-through', 'link/journal', 'kernel/fd', 'memories/counts-layout', 'memories/records'].map(
          (name) => import('${OUT}' + name + '.js'),
        ),
      )
      const reactor = { watch: (fd, ready) => (ready(), () => {}) }
      const slots = new Slots(new ArrayBuffer(${JOURNAL_SIZE}))
      const held = { fd: new Fd(3), type: 'listener', entry: { container: { index: 0 } } }
      const counts = new ArrayBuffer(countsSize(1))
      formatCounts(counts)
      const ring = new ArrayBuffer(recordsSize(64))
      formatRecords(ring)
      new PassThrough(reactor, slots, { ring, counts }, () => console.log('gone')).serve(0, held)
      console.log('goes on')`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', passes], {
      stdio: ['ignore', 'pipe', 'inherit', listener],
      encoding: 'utf8',
      timeout: 10_000,
    })
    expect(stdout).toBe('goes on\n')
  } finally {
    idle.kill('SIGKILL')
    host.close()
  }
})
