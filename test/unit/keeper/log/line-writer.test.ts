import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LineWriter } from '../../../../src/keeper/log/line-writer.ts'

const LINE = `${'x'.repeat(1023)}\n`

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A reader that has room for so many bytes, and fails with what it is told otherwise. */
class Reader {
  room = 0
  code = 'EAGAIN'
  read = ''

  readonly write = (bytes: Buffer): number => {
    const taken = bytes.subarray(0, this.room)
    if (taken.length === 0) throw Object.assign(new Error(this.code), { code: this.code })
    this.room -= taken.length
    this.read += taken.toString()
    return taken.length
  }
}

function make(): { readonly reader: Reader; readonly writer: LineWriter } {
  const reader = new Reader()
  return { reader, writer: new LineWriter((lines) => `${lines} lost\n`, reader.write) }
}

test('lines wait for a slow reader, and come whole and in their order', () => {
  const { reader, writer } = make()
  for (let line = 0; line < 500; line++) writer.write(`line ${line}\n`)
  expect(reader.read).toBe('')
  for (let turn = 0; turn < 2000; turn++) {
    reader.room = 7
    vi.advanceTimersByTime(10)
  }
  expect(reader.read).toBe(Array.from({ length: 500 }, (_, line) => `line ${line}\n`).join(''))
})

test('what there is no room for is counted, and the count stands where the lines would stand', () => {
  const { reader, writer } = make()
  for (let line = 0; line < 2000; line++) writer.write(LINE)
  reader.room = Number.POSITIVE_INFINITY
  vi.advanceTimersByTime(10)
  expect(reader.read).toBe(`${LINE.repeat(1024)}976 lost\n`)
  writer.write('again\n')
  expect(reader.read.endsWith('976 lost\nagain\n')).toBe(true)
})

test('lines are lost where nobody reads any more, and that is said to who reads later', () => {
  const { reader, writer } = make()
  reader.code = 'EPIPE'
  for (let line = 0; line < 3; line++) writer.write(LINE)
  reader.room = Number.POSITIVE_INFINITY
  writer.write('again\n')
  expect(reader.read).toBe('3 lost\nagain\n')
})

test('the end of the process waits for the reader, but not for ever', () => {
  const { reader, writer } = make()
  writer.write('one\n')
  const start = Date.now()
  writer.close()
  expect(reader.read).toBe('')
  expect(Date.now() - start).toBeLessThan(5000)
  reader.room = 100
  writer.close()
  expect(reader.read).toBe('one\n')
})
