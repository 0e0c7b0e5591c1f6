import { expect, test, vi } from 'vitest'
import {
  parseEnv,
  parseName,
  parseSeconds,
  parseSince,
  parseSize,
  parseUser,
  parseWorkdir,
} from '../../../src/cli/option-values.ts'

test.each([
  ['1048576', 1_048_576],
  ['512m', 536_870_912],
  ['2G', 2_147_483_648],
  ['1024kb', 1_048_576],
  ['123MiB', 128_974_848],
])('parseSize(%j) is %d', (text, bytes) => expect(parseSize(text)).toBe(bytes))

test.each(['', 'm', '5x', '-1', '1.5g', '5ib'])('parseSize(%j) is refused', (text) => {
  expect(() => parseSize(text)).toThrow('size')
})

test.each(['0', '1k', '1023k', '8192t', '99999999999999999999'])(
  'parseSize(%j) is refused: no container could have it',
  (text) => {
    expect(() => parseSize(text)).toThrow('at least 1m')
  },
)

test('parseWorkdir() takes an absolute path', () => {
  expect(parseWorkdir('/tmp')).toBe('/tmp')
  expect(() => parseWorkdir('tmp')).toThrow('absolute')
})

test('parseSeconds() takes what a timer can wait', () => {
  expect([parseSeconds('0'), parseSeconds('2000000')]).toEqual([0, 2_000_000])
  for (const text of ['', '-1', '1.5', '10s', '2000001']) expect(() => parseSeconds(text)).toThrow('seconds')
})

test('parseUser() takes the group of the same number', () => {
  expect(parseUser('5')).toEqual({ uid: 5, gid: 5 })
  expect(parseUser('5:6')).toEqual({ uid: 5, gid: 6 })
  expect(() => parseUser('70000')).toThrow('65535')
})

test('parseEnv() passes on what is ours, if we have it', () => {
  expect(parseEnv('A=b=c', ['X=1'])).toEqual(['X=1', 'A=b=c'])
  expect(parseEnv('PATH')).toEqual([`PATH=${process.env.PATH}`])
  expect(parseEnv('INTERCEDE_NOT_SET')).toEqual([])
  for (const text of ['', '=', '=x']) expect(() => parseEnv(text)).toThrow('KEY=VALUE')
})

test('parseName() takes what is a host name', () => {
  expect(parseName('web-1')).toBe('web-1')
  expect(() => parseName('../x')).toThrow('host name')
})

test('parseSince() takes a day from its beginning here', () => {
  vi.stubEnv('TZ', 'Asia/Tokyo')
  expect(parseSince('2020-01-31')).toBe(Date.parse('2020-01-30T15:00:00Z'))
  expect(() => parseSince('2020-01-32')).toThrow('It must be a time')
  vi.unstubAllEnvs()
})

test('parseSince() takes what is past', () => {
  expect(Date.now() - parseSince('1h30m')).toBeLessThan(5_500_000)
  for (const text of ['2026-01-31T10:00:00Z', 'today', '0s', '23:59', '00:00'])
    expect(parseSince(text)).toBeLessThanOrEqual(Date.now())
  expect(() => parseSince('2999-01-31')).toThrow('It is in the future: 2999-01-3')
  for (const text of ['10', 'tomorrow', '2026-13-01']) expect(() => parseSince(text)).toThrow('a time such as')
})
