import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readText } from '../../../src/runtimes/text-file.ts'

const directory = mkdtempSync(join(tmpdir(), 'intercede-text-'))
afterAll(() => rmSync(directory, { recursive: true }))

const sized = (bytes: number): string => {
  const file = join(directory, String(bytes))
  writeFileSync(file, '')
  truncateSync(file, bytes)
  return file
}
const fifo = join(directory, 'fifo')
execFileSync('mkfifo', [fifo])

test.each([
  { what: 'a device that never ends', file: '/dev/zero', why: 'no regular file' },
  { what: 'a FIFO to which nobody writes', file: fifo, why: 'no regular file' },
  { what: 'a directory', file: directory, why: 'no regular file' },
  { what: 'a file one byte too large', file: sized(1024 * 1024 + 1), why: 'larger than 1 MiB' },
  { what: 'a file of 10 GB', file: sized(10 ** 10), why: 'larger than 1 MiB' },
  { what: 'no file', file: join(directory, 'none'), why: 'ENOENT' },
])('readText() refuses $what', ({ file, why }) => {
  expect(() => readText(file)).toThrow(why)
})

test('readText() takes a file of 1 MiB, and one whose size is not told', () => {
  expect(readText(sized(1024 * 1024))).toHaveLength(1024 * 1024)
  expect(readText('/proc/self/comm')).not.toBe('')
})

test.each([
  { command: 'echo text', says: 'text\n' },
  { command: 'head -c 2000000 /dev/zero', says: 'it is larger than 1 MiB; is it the right file?' },
])('readText() waits for what $command writes into a pipe, where that is allowed', ({ command, says }) => {
  spawn('sh', ['-c', `${command} >"$0"`, fifo], { stdio: 'ignore' })
  let said: string
  try {
    said = readText(fifo, { pipes: true })
  } catch (error) {
    said = (error as Error).message
  }
  expect(said).toBe(says)
})
