import { expect, test } from 'vitest'
import { allTexts, argumentsOf } from '../../../src/calls/arguments.ts'
import { decodeTexts, RecordTexts, TEXTS_SIZE } from '../../../src/calls/record.ts'
import { handlers } from '../../../src/syscalls/index.ts'

const registers = { pointer: (index: number) => 0x1000n * BigInt(index + 1) }

/** What a record has after these texts were copied, each from the address in a register. */
function recorded(wanted: readonly number[], texts: readonly (readonly [index: number, text: Uint8Array | string])[]) {
  const all = new RecordTexts()
  all.begin(wanted, registers)
  for (const [index, text] of texts) all.note(registers.pointer(index), text)
  const decoded = decodeTexts(all.bytes.subarray(0, all.length))
  return [...decoded].map(([index, { bytes, isCut }]) => [index, Buffer.from(bytes).toString('latin1'), isCut])
}

test('texts are recorded with their argument, others are not', () => {
  const texts = [
    [0, Buffer.from('a/path')],
    [3, 'secret'],
    [2, 'ext4'],
    [0, 'again'],
  ] as const
  expect(recorded([0, 2], texts)).toEqual([
    [0, 'a/path', false],
    [2, 'ext4', false],
  ])
})

test('long texts are cut, and leave room for those that follow', () => {
  const long = 'x'.repeat(4000)
  const [first, second, third] = recorded(
    [0, 1, 2],
    [
      [0, long],
      [1, long],
      [2, 'squashfs'],
    ],
  )
  expect(first).toEqual([0, 'x'.repeat(TEXTS_SIZE - 2 - 52), true])
  expect(second).toEqual([1, 'x'.repeat(24), true])
  expect(third).toEqual([2, 'squashfs', false])
})

test('what was noted of one call is not in the record of the next', () => {
  const all = new RecordTexts()
  all.begin([0], registers)
  all.note(0x1000n, 'one')
  all.end()
  all.note(0x1000n, 'two')
  expect(all.length).toBe(0)
})

test('texts that are no texts of ours are decoded without a fault', () => {
  expect([...decodeTexts(Uint8Array.of(1, 200, 65))]).toEqual([[1, { bytes: Uint8Array.of(65), isCut: false }]])
  expect([...decodeTexts(Buffer.from([1]))]).toEqual([])
})

test('every call that is served says what its arguments are', () => {
  expect(handlers.filter(({ name }) => argumentsOf(name) === undefined).map(({ name }) => name)).toEqual([])
})

test('log.arguments says which texts are recorded; values and options never are', () => {
  expect(['mount', 'fsconfig', 'setxattr'].map((name) => allTexts('all').get(name))).toEqual([[0, 1, 2], [2], [0, 1]])
  expect(['mount', 'fsconfig', 'setxattr'].map((name) => allTexts('names').get(name))).toEqual([[2], [2], [1]])
  expect([...allTexts('none').values()].flat()).toEqual([])
})
