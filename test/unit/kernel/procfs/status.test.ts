import { expect, test } from 'vitest'
import { type ProcStatus, parseStatus } from '../../../../src/kernel/procfs/status.ts'

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
