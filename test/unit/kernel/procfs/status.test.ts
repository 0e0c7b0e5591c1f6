import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  GROUPS_LIMIT,
  type ProcStatus,
  parseStatus,
  STATUS_SIZE,
  statusField,
  statusMask,
  statusNumbers,
  TooManyGroups,
} from '../../../../src/kernel/procfs/status.ts'

const parse = (text: string): ProcStatus => parseStatus(Buffer.from(`${text}what the buffer held before`), text.length)

const status = (name: string, groups: string): string => `Name:\t${name}
Umask:\t0027
Tgid:\t4711
State:\tS (sleeping)
Uid:\t100000\t100001\t100002\t100003
Gid:\t200000\t200001\t200002\t200003
FDSize:\t64
Groups:\t${groups}
CapInh:\t0000000000000000
CapPrm:\t000001ffffffffff
CapEff:\t0000000008000000
CapBnd:\t000001ffffffffff
`

test('parseStatus() takes the file system ids, the umask and the effective set', () => {
  expect(parse(status('sh', ''))).toEqual({
    tgid: 4711,
    umask: 0o27,
    uids: [100000, 100001, 100002, 100003],
    gids: [200000, 200001, 200002, 200003],
    groups: new Uint32Array(0),
    effective: 1n << 27n,
  })
})

test('parseStatus() takes all groups; the kernel ends the list with a blank', () => {
  expect(parse(status('sh', '4 24 4294967294 ')).groups).toEqual(Uint32Array.of(4, 24, 4294967294))
})

test('a name cannot forge a line, since the kernel escapes line feeds', () => {
  expect(parse(status('x\\nUid:\\t0\\t0\\t0\\t0', '')).uids).toEqual([100000, 100001, 100002, 100003])
})

test('a file that was cut off is an error', () => {
  expect(() => parse(status('sh', '').slice(0, 150))).toThrow(RangeError)
})

test('a line is found wherever the one of the file before stood, and never behind the file', () => {
  const bytes = Buffer.alloc(1000)
  const parseOver = (text: string): ProcStatus => {
    bytes.write(text, 'latin1')
    return parseStatus(bytes, text.length)
  }
  const [long, short] = [status('a-name-that-is-long', '1 2 3 4 5 6 7 8 9 10 '), status('sh', '')]
  const [ofLong, ofShort] = [parseOver(long), parseOver(short)]
  expect(ofLong.groups).toHaveLength(10)
  expect({ ...ofLong, groups: ofShort.groups }).toEqual(ofShort)
  expect(parseOver(long)).toEqual(ofLong)
  // The rest of the longer file is still there, and its CapEff where it was found last.
  expect(() => parseOver(short.slice(0, short.indexOf('CapEff')))).toThrow(RangeError)
  expect(parseOver(short)).toEqual(ofShort)
})

/** What the kernel does to a name here: linux/fs/proc/array.c proc_task_name(). */
const escaped = (name: string): string => name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
const anyName = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString('latin1'))
const forged = fc.constantFrom('\rUid:\t0\t0\t0\t0', '\nUid:\t0', 'Uid:\t0', '\rCapEff:\tf', 'x\rTgid:\t1')

test('whatever a task is called, nothing else changes', () => {
  const plain = parse(status('sh', '4 24 '))
  fc.assert(
    fc.property(fc.oneof(anyName, forged), (name) => {
      const text = status(escaped(name), '4 24 ')
      expect(parseStatus(Buffer.from(text, 'latin1'), text.length)).toEqual(plain)
      expect(statusNumbers(text, 'Uid')).toEqual(plain.uids)
      expect(statusField(text, 'Tgid')).toBe('4711')
      expect(statusMask(text, 'CapEff')).toBe(plain.effective)
    }),
  )
})

const many = (count: number): string =>
  Array.from({ length: count }, (_, index) => `${4_294_000_000 + index} `).join('')
const read = (groups: string): ProcStatus => {
  const bytes = Buffer.alloc(STATUS_SIZE)
  return parseStatus(bytes, bytes.write(status('x'.repeat(64), groups), 'latin1'))
}

test.each([
  { count: GROUPS_LIMIT, error: undefined },
  { count: GROUPS_LIMIT + 1, error: TooManyGroups },
  { count: 65_536, error: TooManyGroups },
])('parseStatus() of $count groups, as much of it as is read', ({ count, error }) => {
  if (error) expect(() => read(many(count))).toThrow(error)
  else expect(read(many(count)).groups).toHaveLength(count)
})

test('parseStatus() never takes a part of a file', () => {
  const text = status('sh', '1 2 ')
  const end = text.indexOf('CapBnd')
  fc.assert(
    fc.property(fc.nat({ max: end - 1 }), (length) => {
      expect(() => parse(text.slice(0, length))).toThrow(RangeError)
    }),
  )
})

test.each([
  { what: 'an empty file', text: '' },
  { what: 'a line that is cut off', text: 'Name:\tsh\nUid:\t10' },
  { what: 'no such line', text: 'Name:\tsh\nGid:\t10\n' },
  { what: 'a label that ends alike', text: 'Name:\tsh\nxUid:\t10\n' },
  { what: 'a label that begins alike', text: 'Name:\tsh\nUidx:\t10\n' },
])('statusField() finds nothing in $what', ({ text }) => {
  expect(statusField(text, 'Uid')).toBeUndefined()
  expect(statusNumbers(text, 'Uid')).toEqual([])
  expect(statusMask(text, 'Uid')).toBe(0n)
})

test('statusNumbers() takes blanks and tabs, and an empty list', () => {
  const text = 'NSpid:\t4711\t12\t1\nGroups:\t4 24 \nNStgid:\t\n'
  expect(['NSpid', 'Groups', 'NStgid'].map((label) => statusNumbers(text, label))).toEqual([[4711, 12, 1], [4, 24], []])
})
