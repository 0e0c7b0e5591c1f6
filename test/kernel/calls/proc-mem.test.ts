import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errnos } from '../../../src/abi/errno.ts'
import { AT_FDCWD, O_RDONLY, O_WRONLY } from '../../../src/abi/fcntl.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { findWritable, HeldMemory, queryWritable } from '../../../src/kernel/remote-memory.ts'
import { fixture } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'

const directory = mkdtempSync(join(tmpdir(), 'intercede-memory-'))
const file = join(directory, 'file')
let child: ChildProcess
let at: Record<string, bigint>

const open = (name: string, flags: number): Fd => openat(AT_FDCWD, cstring(`/proc/${child.pid}/${name}`), flags)

beforeAll(async () => {
  writeFileSync(file, Buffer.alloc(8192, '.'))
  child = spawn(fixture('mappings'), [file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string]
  const addresses = Object.entries(JSON.parse(line) as Record<string, string>)
  at = Object.fromEntries(addresses.map(([name, address]) => [name, BigInt(address)]))
})
afterAll(async () => {
  const over = once(child, 'exit')
  child.kill('SIGKILL')
  await over
  rmSync(directory, { recursive: true })
})

/** Whatever the protection of the page is. */
function textAt(address: bigint, length = 12): string {
  const mem = openSync(`/proc/${child.pid}/mem`, 'r')
  const text = Buffer.alloc(length)
  readSync(mem, text, 0, length, address)
  closeSync(mem)
  return text.toString('latin1')
}

const WRITABLE = ['anonymous', 'writeOnly', 'data', 'private', 'shared', 'stack']
const CLOSED = ['none', 'readOnly', 'code', 'sharedReadOnly']

test('a task is written where it may write itself, as the kernel writes for it, and nowhere else', () => {
  using mem = open('mem', O_WRONLY)
  using maps = open('maps', O_RDONLY)
  const held = new HeldMemory(mem, maps)
  const fetched: bigint[] = []
  const write = (name: string, text: string): void =>
    held.write(at[name]!, Buffer.from(text), (where) => fetched.push(where))
  for (const name of WRITABLE) write(name, `to ${name} here`.slice(0, 12))
  for (const name of [...CLOSED, 'behindTheEnd']) expect(() => write(name, 'never'), name).toThrow('EFAULT')
  // Four bytes fit before the page that may not be written.
  expect(() => write('last', 'partly')).toThrow('EFAULT')
  expect(() => held.write(0xffff_ffff_ffff_f000n, Buffer.from('x'), () => {})).toThrow('EFAULT')
  expect(() => held.write(0n, Buffer.from('x'), () => {})).toThrow('EFAULT')
  for (const name of WRITABLE) expect(textAt(at[name]!), name).toContain(`to ${name} here`.slice(0, 12))
  expect(textAt(at.last!, 4)).toBe('part')
  for (const name of CLOSED) expect(textAt(at[name]!), name).not.toContain('never')
  expect(fetched).toEqual(['data', 'private', 'shared', 'behindTheEnd'].map((name) => at[name]))
})

test('the text of the mappings says the same as the kernel does when it is asked for one', ({ skip }) => {
  const answer = (look: () => unknown): unknown => {
    try {
      return look()
    } catch (error) {
      return (error as { errno?: number }).errno
    }
  }
  for (const address of [...Object.values(at), 0n, 4096n, 0xffff_ffff_ffff_f000n]) {
    using asked = open('maps', O_RDONLY)
    using text = open('maps', O_RDONLY)
    const expected = answer(() => queryWritable(asked, address))
    if (expected === errnos.ENOTTY) skip('this kernel lacks procmapQuery')
    expect(
      answer(() => findWritable(text, address)),
      address.toString(16),
    ).toEqual(expected)
  }
})

test('the text of the mappings can be asked more than once, as by each of several writes', () => {
  using text = open('maps', O_RDONLY)
  for (const name of ['stack', 'anonymous', 'data', 'stack'])
    expect(findWritable(text, at[name]!).end, name).toBeGreaterThan(at[name]!)
})

test('memory that is held is not that of the next program with the number of the task', async () => {
  const next = spawn('sh', ['-c', 'echo; read line; exec sleep 100'], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    await once(next.stdout, 'data')
    using mem = openat(AT_FDCWD, cstring(`/proc/${next.pid}/mem`), O_WRONLY)
    using maps = openat(AT_FDCWD, cstring(`/proc/${next.pid}/maps`), O_RDONLY)
    const held = new HeldMemory(mem, maps)
    const stack = (): bigint =>
      BigInt(`0x${/([0-9a-f]+) rw.*\[stack\]/.exec(readFileSync(`/proc/${next.pid}/maps`, 'latin1'))![1]}`)
    const before = stack() - 16n
    held.write(before, Buffer.from('here'), () => {})
    next.stdin.write('\n')
    await until('the next program', () => readFileSync(`/proc/${next.pid}/comm`, 'latin1') === 'sleep\n')
    expect(() => held.write(stack() - 16n, Buffer.from('there'), () => {})).toThrow()
  } finally {
    next.kill('SIGKILL')
  }
})

describe('a call that is answered while a thread beside the caller calls execve(2)', () => {
  let host: Host
  beforeAll(async () => {
    host = await Host.start({ sysinfo: {} })
  })
  afterAll(() => host.close())

  // The engine that looked first and then wrote by the number of the task did it 9 and 18 times in 3,000.
  test('writes nothing into the new program', async () => {
    const { stdout, stderr } = await host.run(
      ['--all-sysinfo'],
      [fixture('execve-race', ['-static', '-no-pie']), '3000'],
    )
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual({ rounds: 3000, written: 0 })
  }, 120_000)
})
