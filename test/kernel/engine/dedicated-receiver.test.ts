import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { Host, mknodPolicy, USERNS, until } from '../../support/host.ts'
import { Hostile, stuckThreads, withoutFuse } from '../../support/hostile.ts'
import { FAILS_ONCE, PatchedBuild } from '../../support/patched-build.ts'
import { untraced, withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { Strace } from '../../support/strace.ts'

let host: Host
const children: ChildProcess[] = []
beforeEach(async () => {
  host = await Host.start()
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  host.close()
})

/** A listener that is attended is in the set without events (epoll(7) adds EPOLLERR and EPOLLHUP). */
const NO_EVENTS = /^tfd:.*events:\s+18 /gm

function attended(pid = host.enginePid): number {
  const directory = `/proc/${pid}/fdinfo`
  const infoOf = (fd: string): string => {
    try {
      return readFileSync(`${directory}/${fd}`, 'utf8')
    } catch {
      return ''
    }
  }
  return readdirSync(directory).flatMap((fd) => infoOf(fd).match(NO_EVENTS) ?? []).length
}

/** Calls that are passed on: of a device that is not allowed. */
const passes = (count: number): string[] => {
  const path = join(host.directory, 'passed')
  return [fixture('mknod-loop'), '--count', `${count}`, '--device', '1:1', path]
}

/** A container that stays until its stdin ends. @returns its lines */
function container(
  id: string,
  script: string,
  { socket } = host,
  more: readonly string[] = [],
): { readonly child: ChildProcess; readonly lines: string[] } {
  const args = [socket, '--userns', USERNS, '--pidns', ...more, '--id', id, '--await-agent', '--', 'sh', '-c', script]
  const child = spawn(fixture('filtered'), args, { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  const lines: string[] = []
  child.stdout!.on('data', (chunk: Buffer) => lines.push(...chunk.toString().split('\n').filter(Boolean)))
  return { child, lines }
}

const errorsOf = (line: string): unknown => (JSON.parse(line) as { readonly errors: object }).errors

test('a listener that is called all the time is waited for in receive alone; others are served meanwhile, and it is everybody’s again when it is quiet', async () => {
  const output = join(host.directory, 'strace')
  const { child, lines } = container('hot', `${passes(100_000).join(' ')}; read _; ${passes(200).join(' ')}; cat`)
  await until('it is attended', () => attended() === 1, 10)
  const strace = await Strace.attach(host.enginePid, ['-e', 'trace=ioctl,epoll_wait', '-o', output])
  await new Promise((resolve) => setTimeout(resolve, 300 * SLOWNESS))
  await strace.end()
  const calls = readFileSync(output, 'latin1').match(/^\d+ +(ioctl\(.*NOTIF_(RECV|SEND)|epoll_wait)/gm) ?? []
  const waits = calls.filter((line) => line.includes('epoll_wait'))
  expect(calls.length).toBeGreaterThan(200)
  expect(waits.length).toBeLessThan(calls.length / 20)
  const node = await host.call(['mknod', join(host.directory, 'other'), '020666', '1', '3'])
  expect(node.result).toBe('ok')
  await until('the loop has ended', () => lines.length === 1, 30)
  expect(errorsOf(lines[0]!)).toEqual({ EPERM: 100_000 })
  await until('who attended it was called back', () => attended() === 0, 10)
  child.stdin!.write('\n')
  await until('it is served again', () => lines.length === 2, 10)
  expect(errorsOf(lines[1]!)).toEqual({ EPERM: 200 })
  expect(host.events.filter(({ type }) => type === 'fault')).toEqual([])
})

test.each([
  { call: 'getxattr', errors: { ENODATA: 30_000 } },
  { call: 'sysinfo', errors: {} },
])(
  'a listener of which $call is called all the time has one too, and a mknod there is served all the same',
  async ({ call, errors }) => {
    const other = await Host.start({
      ...mknodPolicy,
      sysinfo: {},
      setxattr: { allowed: new Set<string>(), read: true },
    })
    try {
      const loop = `${fixture('mknod-loop')} --call ${call} --count 30000 ${join(other.directory, 'file')}`
      const made = `${fixture('caller')} mknod ${join(other.directory, 'made')} 020666 1 3`
      const { lines } = container('hot', `${loop} & sleep 0.3; ${made}; wait`, other, ['--all-sysinfo', '--xattr'])
      await until('it is attended', () => attended(other.enginePid) === 1, 20)
      await until('all have returned', () => lines.length === 2, 60)
      expect(lines.map((line) => (line === '{"ok":true}' ? line : errorsOf(line)))).toEqual(
        expect.arrayContaining(['{"ok":true}', errors]),
      )
      expect(other.events.filter(({ type }) => type === 'fault')).toEqual([])
    } finally {
      other.close()
    }
  },
)

const DEPUTY = 'this.#onHang(this.#activity.threadOf(line));'
const WAKER = 'if (isQuiet && thread < 0 && thread !== RELEASED)'
const cannotHang = withoutFuse() ?? untraced
describe.skipIf(cannotHang)(withReason('a call that hangs while a dedicated receiver serves it', cannotHang), () => {
  test.each([
    { who: 'the deputy', file: 'engine/leader/dedicated-receiver.js', from: WAKER, to: 'if (false)' },
    { who: 'the main thread, should the deputy not', file: 'engine/leader/leadership.js', from: DEPUTY, to: '' },
  ])(
    'keeps none of the other calls of its container: $who puts the listener back',
    { timeout: 90_000 },
    async ({ file, from, to }) => {
      const build = new PatchedBuild(file, from, to)
      const ill = await Host.start({ sysinfo: {} }, {}, build.url)
      const engine = ill.enginePid
      const hostile = new Hostile(ill.directory)
      try {
        const go = join(ill.directory, 'go')
        const loop = `${fixture('mknod-loop')} --call sysinfo --count 100000`
        const stuck = `${fixture('stuck-calls')} --how silent --sysinfo --touch --threads 1 --in-file`
        const script = `echo started; ${loop} & until [ -e ${go} ]; do sleep 0.1; done; ${stuck} ${join(hostile.mount, 'file')}`
        await hostile.start(ill.socket, [], ['sh', '-c', script])
        await until('it is attended', () => attended(engine) === 1, 20)
        writeFileSync(go, '')
        await until('the listener is put back', () => stuckThreads(engine).length === 1 && attended(engine) === 0, 20)
        await until('the loop has ended', () => hostile.returned.some((line) => line.startsWith('{')), 60)
        expect(errorsOf(hostile.returned.find((line) => line.startsWith('{'))!)).toEqual({})
      } finally {
        await hostile.end()
        ill.close()
        await build.remove(engine)
      }
    },
  )
})

test('a call that may take longer is served while its listener has a dedicated receiver, each time', async () => {
  const made = (number: number): string =>
    `${fixture('caller')} mknod ${join(host.directory, `made-${number}`)} 020666 1 3`
  const { lines } = container(
    'mixed',
    Array.from({ length: 20 }, (_, number) => `${passes(300).join(' ')} >/dev/null && ${made(number)}`).join('; '),
  )
  await until('all were made', () => lines.length === 20, 30)
  expect(new Set(lines)).toEqual(new Set(['{"ok":true}']))
})

test('containers that end while they have a dedicated receiver leave nothing behind', { timeout: 60_000 }, async () => {
  const ended = (): number => host.events.filter(({ type }) => type === 'ended').length
  const burst = async (count: number): Promise<void> => {
    const before = ended()
    for (let number = 0; number < count; number++) {
      const { child } = container(`short-${number}`, passes(1_000_000).join(' '))
      await until('it is attended', () => attended() === 1, 10)
      child.kill('SIGKILL')
      await until('nothing is attended any more', () => attended() === 0, 10)
    }
    await until('all have ended', () => ended() === before + count, 10)
  }
  /** The engine closes what has ended a little after the keeper has said so. */
  const settled = async (): Promise<typeof host.footprint> => {
    for (let [last, same] = ['', 0]; ; same++) {
      const seen = JSON.stringify(host.footprint)
      if (seen !== last) same = 0
      if (same === 20) return host.footprint
      last = seen
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
  await burst(5)
  let before = await settled()
  await burst(20)
  // An engine that had more to do may have one more thread, which stays; but not each time.
  for (let tries = 0; tries < 3 && host.footprint.engineThreads > before.engineThreads; tries++) {
    before = await settled()
    await burst(20)
  }
  // This process, which is the keeper, has the pipes of each child for a little longer.
  await until('the footprint is as before', () => isDeepStrictEqual(host.footprint, before), 10).catch(() => {})
  expect(host.footprint).toEqual(before)
})

test('an engine that is killed while a listener has a dedicated receiver: the next one answers, and gives it one too', async () => {
  host.mayLoseEngine = true
  const { lines } = container('hot', passes(250_000).join(' '))
  for (let kill = 0; kill < 3; kill++) {
    await until('it is attended', () => host.maybeEnginePid !== undefined && attended() === 1, 20)
    const pid = host.enginePid
    process.kill(pid, 'SIGKILL')
    await until('there is another engine', () => ![undefined, pid].includes(host.maybeEnginePid), 10)
  }
  await until('the loop has ended', () => lines.length === 1, 60)
  expect(errorsOf(lines[0]!)).toEqual({ EPERM: 250_000 })
})

test('an engine whose leader hangs is replaced also while a listener has a dedicated receiver', {
  timeout: 90_000,
}, async () => {
  const takes =
    'const slot = this.#take(index, container);\n        if (slot < 0)\n            return;\n        if (!notifRecv'
  const hangs = `if (container.id === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`
  const build = new PatchedBuild('engine/thread/thread.js', takes, hangs + takes)
  const ill = await Host.start(undefined, {}, build.url)
  ill.mayLoseEngine = true
  const engine = ill.enginePid
  try {
    const { child } = container('flood', passes(100_000_000).join(' '), ill)
    await until('it is attended', () => attended(engine) === 1, 10)
    container('hang', passes(1).join(' '), ill)
    await until('the container is known', () => ill.events.filter(({ type }) => type === 'registered').length === 2)
    container('third', passes(1).join(' '), ill)
    await until('the engine is replaced', () => ill.events.some(({ type }) => type === 'engineEnded'), 40)
    child.kill('SIGKILL')
  } finally {
    const last = ill.maybeEnginePid
    ill.close()
    await build.remove(last)
  }
})

test('the calls of a dedicated receiver that fails are answered by the next engine', { timeout: 60_000 }, async () => {
  const receives = 'const received = this.#dedicated.receive();'
  const fails = `globalThis.count ??= 0; ${receives} if (received && ++globalThis.count === 50) ${FAILS_ONCE}`
  const build = new PatchedBuild('engine/thread/thread.js', receives, fails)
  const ill = await Host.start(undefined, {}, build.url)
  ill.mayLoseEngine = true
  try {
    const { lines } = container('hot', passes(20_000).join(' '), ill)
    await until('all have returned', () => lines.length === 1, 30)
    expect(errorsOf(lines[0]!)).toEqual({ EPERM: 20_000 })
    expect(ill.events).toContainEqual({ type: 'fault', message: 'The engine failed: a thread failed: of a test' })
  } finally {
    const last = ill.maybeEnginePid
    ill.close()
    await build.remove(last)
  }
})
