// A read-only descriptor of our memory is opened anew for writing: fs/namei.c inode_permission(), mm/memfd.c seals.
import { spawnSync } from 'node:child_process'
import { closeSync, fchmodSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { release } from 'node:os'
import { expect, test } from 'vitest'
import { bytesFile, map, memfd, restrict, textFile } from '../../src/kernel/shared-memory.ts'
import { withReason } from '../support/skipped.ts'

const NOBODY = 65534
const [major = 0, minor = 0] = release().split('.').map(Number)
const noExec = major > 6 || (major === 6 && minor >= 3) ? undefined : 'Linux 6.3 brings it'

/** What a process of another user says that has the file as its standard input, for reading. */
function asNobody(raw: number, script: string): { readonly status: number | null; readonly stderr: string } {
  const stdin = openSync(`/proc/self/fd/${raw}`, 'r')
  try {
    const { status, stderr } = spawnSync('sh', ['-c', script], {
      ...{ uid: NOBODY, gid: NOBODY, encoding: 'utf8' as const },
      stdio: [stdin, 'pipe', 'pipe'],
    })
    return { status, stderr }
  } finally {
    closeSync(stdin)
  }
}

const kinds = [
  { what: 'memory', make: () => memfd('intercede-test', 4096) },
  { what: 'a text', make: () => textFile('intercede-test', 'a text') },
  { what: 'bytes', make: () => bytesFile('intercede-test', Uint8Array.of(1, 2, 3)) },
]

test.each(kinds)('a memfd with $what is reopened by nobody else, for writing or reading', ({ make }) => {
  using file = make()
  expect(asNobody(file.raw, 'exec 3<>/proc/self/fd/0')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('Permission denied'),
  })
  expect(asNobody(file.raw, 'exec 3</proc/self/fd/0').status).toBe(2)
  expect(statSync(`/proc/self/fd/${file.raw}`).mode & 0o777).toBe(0o600)
})

test.each(kinds)('a memfd with $what keeps its size for ever, also for us', ({ make }) => {
  using file = make()
  const { size } = statSync(`/proc/self/fd/${file.raw}`)
  for (const length of [0, 2 * 4096]) expect(() => ftruncateSync(file.raw, length)).toThrow('EPERM')
  expect(statSync(`/proc/self/fd/${file.raw}`).size).toBe(size)
})

test('the text in a memfd stays for ever, and memory stays writable', () => {
  using text = textFile('intercede-test', 'a text')
  expect(() => writeSync(text.raw, 'x', 0)).toThrow('EPERM')
  expect(readFileSync(`/proc/self/fd/${text.raw}`, 'utf8')).toBe('a text')
  using memory = memfd('intercede-test', 4096)
  new Uint8Array(map(memory))[7] = 9
  expect(new Uint8Array(map(memory))[7]).toBe(9)
})

test.skipIf(noExec)(withReason('no memfd is ever a program', noExec), () => {
  for (const { make } of kinds) {
    using file = make()
    expect(() => fchmodSync(file.raw, 0o700)).toThrow('EPERM')
  }
})

test('memory of an intercede that left it open to all is ours alone once it is taken over', () => {
  using memory = memfd('intercede-test', 4096)
  fchmodSync(memory.raw, 0o666)
  restrict(memory)
  expect(asNobody(memory.raw, 'exec 3<>/proc/self/fd/0').status).toBe(2)
})
