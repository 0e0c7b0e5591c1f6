import fc from 'fast-check'
import { expect, test } from 'vitest'
import { STAT, statFieldAt, statNumber, statState } from '../../../../src/kernel/procfs/status.ts'

const FIELDS = 'S 4242 4711 4711 0 -1 4194560 0 0 0 0 12 34 0 0 20 0 1 0 987654 1234 56'
const file = (name: Uint8Array | string): Buffer =>
  Buffer.concat([Buffer.from('4711 ('), Buffer.from(name as string, 'latin1'), Buffer.from(`) ${FIELDS}\n`)])

const parse = (bytes: Uint8Array, length = bytes.length): readonly unknown[] => [
  statState(bytes, length),
  statNumber(bytes, length, STAT.ppid),
  statNumber(bytes, length, STAT.startTime),
]
const PARSED = ['S', 4242, 987654]

test.each([
  { what: 'a usual name', name: 'sh' },
  { what: 'no name at all', name: '' },
  { what: 'the fields of another task', name: 'x) R 1 (' },
  { what: 'only the end of a name', name: ')' },
  { what: 'line feeds, which are not escaped here', name: 'a\n1 (b) R 1 ' },
  { what: 'backslashes and blanks', name: '\\n \\040 ' },
  { what: 'bytes that are no UTF-8', name: '\xff\xfe\xc3' },
])('stat: the fields stand behind a name with $what', ({ name }) => {
  expect(parse(file(name))).toEqual(PARSED)
})

test('stat: the fields stand behind whatever a task is called', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (name) => {
      expect(parse(file(name))).toEqual(PARSED)
    }),
  )
})

test.each(['', '4711', '4711 (sh', '4711 (sh)', '4711 (sh) '])('stat: %j ends too soon', (text) => {
  const bytes = Buffer.from(text)
  expect(() => statState(bytes, bytes.length)).toThrow(RangeError)
  expect(() => statNumber(bytes, bytes.length, STAT.ppid)).toThrow(RangeError)
})

test('stat: what the buffer held before is never taken for the file', () => {
  const bytes = file('longer')
  fc.assert(
    fc.property(fc.nat({ max: bytes.length }), fc.constantFrom(STAT.ppid, STAT.startTime), (length, field) => {
      const end = statFieldAt(bytes, bytes.length, field) + String(statNumber(bytes, bytes.length, field)).length
      if (length > end) expect(statNumber(bytes, length, field)).toBe(statNumber(bytes, bytes.length, field))
      else expect(() => statNumber(bytes, length, field)).toThrow(RangeError)
    }),
  )
})

test('stat: the last field needs no line feed to be found', () => {
  const bytes = Buffer.from('1 (init) S 0')
  expect(bytes.toString('latin1', statFieldAt(bytes, bytes.length, STAT.ppid))).toBe('0')
})
