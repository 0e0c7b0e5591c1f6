import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { BASE, execute, Host, until } from '../../support/host.ts'
import { descriptorsOf } from '../../support/hostile.ts'
import { untraced, withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { statFields } from '../../support/stat.ts'
import { Strace } from '../../support/strace.ts'

let host: Host
beforeAll(async () => {
  host = await Host.start()
})
afterAll(() => host.close())

test.skipIf(untraced)(
  withReason('the threads of an engine at rest are where docs/internals/debugging.md says', untraced),
  async () => {
    const page = readFileSync(new URL('../../../docs/internals/debugging.md', import.meta.url), 'utf8')
    const wchans = (): readonly string[] =>
      readdirSync(`/proc/${host.enginePid}/task`).map((tid) =>
        readFileSync(`/proc/${host.enginePid}/task/${tid}/wchan`, 'utf8').replace(/.*futex.*/, 'futex'),
      )
    await until('all are at rest', () => wchans().every((name) => page.includes(`\`${name}\``)))
    expect(wchans()).toEqual(expect.arrayContaining(['do_epoll_wait', 'futex', 'do_wait_intr_irq']))
  },
)

/** linux/kernel/seccomp.c has_duplicate_listener() */
test('a task of a container gets no listener of its own: EBUSY', async () => {
  const script = `import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
allow = (ctypes.c_uint64 * 1)(0x7fff000000000006)
class Prog(ctypes.Structure): _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
libc.prctl(38, 1, 0, 0, 0)
print(libc.syscall(317, 1, 8, ctypes.byref(Prog(1, ctypes.addressof(allow)))), errno.errorcode.get(ctypes.get_errno()))`
  expect(await host.run([], ['python3', '-c', script])).toMatchObject({ stdout: '-1 EBUSY\n' })
  expect((await execute('python3', ['-c', script])).stdout).toMatch(/^\d+ None\n$/)
})

describe('one call under strace', () => {
  let lines: string[]

  beforeAll(async () => {
    const warm = join(host.directory, 'warm')
    for (let call = 0; call < 20; call++) await host.call(['mknod', `${warm}${call}`, '020666', '1', '3'])
    const output = join(host.directory, 'strace')
    const strace = await Strace.attach(host.enginePid, ['-y', '-o', output])
    await new Promise((resolve) => setTimeout(resolve, 100))
    // The first call of a container finds out its device rules, which another process does; the second one is meant.
    const call = (name: string): string => `${fixture('caller')} mknod ${join(host.directory, name)} 020666 1 3`
    const done = await host.run([], ['sh', '-c', `${call('first')}; ${call('traced')}`])
    expect(done.stdout).toBe('{"ok":true}\n{"ok":true}\n')
    await new Promise((resolve) => setTimeout(resolve, 200))
    await strace.end()
    lines = callOf(readFileSync(output, 'utf8').split('\n'))
  })

  test('is served by one thread, which is not the main thread', () => {
    const threads = new Set(lines.map((line) => line.split(/\s+/)[0]))
    expect(threads.size).toBe(1)
    expect(Number([...threads][0])).not.toBe(host.enginePid)
  })

  test('makes exactly these system calls, and inside the container none but those that are meant', () => {
    // Now and then V8 asks for the number of the process, when it makes code.
    const called = lines.map((line) => /^\d+\s+(?:<\.\.\. )?(\w+)/.exec(line)![1]!)
    // Where the call before has just ended, the leader does not look again whether another one waits, nor set its alarm.
    const atRest = SLOWNESS === 1 ? [] : ['poll', 'timerfd_settime']
    const names = called.filter((name) => name !== 'getpid' && !atRest.includes(name))
    expect(names).toEqual([
      // The call and its caller; from here on only what was opened is used.
      ...['ioctl', 'poll', 'timerfd_settime'].filter((name) => !atRest.includes(name)),
      ...['getrusage', 'process_vm_readv', 'readlinkat'],
      // Its status, its control groups (each call is another task's), and its directory.
      ...['openat', 'read', 'close', 'openat', 'read', 'close', 'openat', 'ioctl'],
      // Becoming the caller.
      ...['umask', 'setfsgid', 'setfsgid', 'setfsuid', 'setfsuid', 'capset', 'capget'],
      // The lookup, the looks at the file system (whether it is procfs, opens nodes, keeps them in memory), and the act
      // with its one capability, after what was there before.
      ...['openat2', 'fstatfs', 'fstatfs', 'fstatfs', 'ioctl', 'capset', 'capget', 'faccessat2', 'mknodat'],
      // Home, the number of the caller in its container, and the answer.
      ...['capset', 'setfsuid', 'setfsuid', 'setfsgid', 'setfsgid', 'capget', 'close', 'close', 'ioctl', 'ioctl'],
    ])
  })

  test('the act is done with CAP_MKNOD and nothing else', () => {
    const sets = lines.filter((line) => line.includes('capset(')).map((line) => /effective=([^,]+)/.exec(line)![1])
    expect(sets).toEqual(['0', '1<<CAP_MKNOD', '1<<CAP_SETGID|1<<CAP_SETUID|1<<CAP_SYS_CHROOT|1<<CAP_SYS_PTRACE'])
  })
})

/** From the receipt of the last call that was answered to its answer; lines that strace cut in two are taken as one. */
function callOf(trace: readonly string[]): string[] {
  const isSend = (line: string): boolean => / ioctl\(.*SECCOMP_IOCTL_NOTIF_SEND/.test(line)
  const thread = trace.findLast(isSend)!.split(/\s+/)[0]!
  const own = trace.filter((line) => line.startsWith(`${thread} `) && !line.includes('resumed>'))
  const send = own.findLastIndex(isSend)
  const receive = own.slice(0, send).findLastIndex((line) => line.includes('SECCOMP_IOCTL_NOTIF_RECV'))
  // The vDSO reads the clock, except where the machine has no clock for it.
  const isOther = (line: string): boolean =>
    / (munmap|mmap|madvise|futex|mprotect|clock_gettime|gettimeofday)\(/.test(line)
  return own.slice(receive, send + 1).filter((line) => !isOther(line))
}

describe('signals', () => {
  test('the engine is in a process group of its own: what is meant for a container or the keeper does not end it', () => {
    const [, , group] = statFields(`/proc/${host.enginePid}/stat`)
    expect(Number(group)).toBe(host.enginePid)
  })

  test('with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV no call is notified twice', async () => {
    host.drain()
    const before = host.records.length
    const base = join(host.directory, 'signalled')
    const done = await host.run([], [fixture('caller'), '--signals', '20000', 'mknod', base, '020666', '1', '3'])
    const said = JSON.parse(done.stdout) as { calls: number; ok: number; errors: object; signals: number }
    await until('all records', () => {
      host.drain()
      return host.records.length - before >= said.calls
    })
    expect(said).toMatchObject({ calls: 20000, ok: 20000, errors: {} })
    expect(said.signals).toBeGreaterThanOrEqual(1000)
    expect(host.records.length - before).toBe(20000)
    expect(host.records.slice(before).every(({ verdict }) => verdict === 'act')).toBe(true)
  })
})

describe('many processes', () => {
  test('leave nothing behind: 200 that join a container, and 20 containers in a row', async () => {
    const settled = async (): Promise<void> => {
      const ended = () => host.events.filter(({ type }) => type === 'ended').length
      const began = () => host.events.filter(({ type }) => type === 'registered').length
      await until('all containers have ended', () => ended() === began())
      const held = (): boolean => descriptorsOf(host.enginePid).some((link) => link.includes('pidfd'))
      await until('the engine has let go of their inits', () => !held())
    }
    const call = [fixture('caller'), 'mknod', join(host.directory, 'there'), '020666', '1', '3']
    const cycle = async (containers: number, joins: number): Promise<void> => {
      for (let container = 0; container < containers; container++) {
        const id = `many-${container}`
        const stay = spawn(
          fixture('filtered'),
          [host.socket, '--userns', `${BASE}:65536`, '--await-agent', '--id', id, '--', 'cat'],
          { stdio: ['pipe', 'pipe', 'inherit'] },
        )
        stay.stdin.write('up\n')
        await new Promise((resolve) => stay.stdout.once('data', resolve))
        for (let join = 0; join < joins; join++) {
          const done = await host.run(['--id', id, '--status', 'running'], call)
          expect(done.status).toBe(0)
        }
        stay.stdin.end()
        await new Promise((resolve) => stay.on('exit', resolve))
      }
      await settled()
    }
    await cycle(2, 5)
    const before = host.footprint
    await cycle(20, 10)
    await until('the footprint is as before', () => JSON.stringify(host.footprint) === JSON.stringify(before)).catch(
      () => {},
    )
    expect(host.footprint).toEqual(before)
    expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
  })

  test('a process that joins a container from another user namespace gets nothing there', async () => {
    const stay = spawn(
      fixture('filtered'),
      [host.socket, '--userns', `${BASE}:65536`, '--await-agent', '--id', 'home', '--', 'cat'],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    stay.stdin.write('up\n')
    await new Promise((resolve) => stay.stdout.once('data', resolve))
    const { result, records } = await host.call(
      ['mknod', join(host.directory, 'foreign'), '020666', '1', '3'],
      ['--id', 'home', '--status', 'running'],
    )
    stay.stdin.end()
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'childUserns' }])
  })

  test('a process of a container that nobody started is served nothing', async () => {
    const { result, records } = await host.call(
      ['mknod', join(host.directory, 'unknown'), '020666', '1', '3'],
      ['--id', 'nobody', '--status', 'running'],
    )
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'unknownContainer' }])
  })

  test('make nodes at once, eight of them', async () => {
    const at = join(host.directory, 'eight')
    mkdirSync(at)
    await execute('chown', [`${BASE}`, at])
    const done = await host.run([], [fixture('mknod-loop'), '--processes', '8', '--count', '300', join(at, 'n')])
    const { calls, errors } = JSON.parse(done.stdout)
    expect({ calls, errors }).toEqual({ calls: 2400, errors: {} })
    rmSync(at, { recursive: true })
  })
})
