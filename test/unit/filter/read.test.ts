import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { formatProfile } from '../../../src/filter/oci.ts'
import { readProfile } from '../../../src/filter/read.ts'
import { noPodmanProfile, PODMAN_PROFILE } from '../../support/fixtures.ts'
import { withReason } from '../../support/skipped.ts'

const withRule = (rule: string): string => `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [${rule}]}`
const withArg = (arg: string): string => withRule(`{"names": ["a"], "action": "SCMP_ACT_KILL", "args": [${arg}]}`)

test.skipIf(noPodmanProfile)(
  withReason('readProfile() takes the profile of podman, except what is null', noPodmanProfile),
  () => {
    const text = readFileSync(PODMAN_PROFILE, 'utf8')
    const plain = JSON.parse(text, (_, value) => (value === null ? undefined : value))
    expect(readProfile(text)).toEqual(plain)
  },
)

test('readProfile() keeps a value that a number of JavaScript cannot hold', () => {
  const long = withArg('{"index": 0, "value": 18446744073709551615, "valueTwo": 9007199254740993, "op": "SCMP_CMP_NE"}')
  expect(JSON.stringify(readProfile(withArg('{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}')))).toContain('"value":1')
  const text = formatProfile(readProfile(long))
  expect(text).toContain('"value": 18446744073709551615')
  expect(text).toContain('"valueTwo": 9007199254740993')
})

test('readProfile() takes null for nothing', () => {
  const text = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": null, "architectures": null}'
  expect(readProfile(text)).toEqual({ defaultAction: 'SCMP_ACT_ALLOW' })
})

test.each([
  ['null', 'the whole is null: not an object'],
  ['[]', 'defaultAction is missing'],
  ['{"defaultAction": "ALLOW"}', 'defaultAction is "ALLOW": not an action of libseccomp'],
  ['{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', 'syscalls is Object: not a list'],
  [withRule('5'), 'syscalls.0 is 5: not an object'],
  [withRule('{"name": "a", "action": "SCMP_ACT_KILL"}'), 'syscalls.0.names is missing'],
  [withRule('{"names": "a", "action": "SCMP_ACT_KILL"}'), 'syscalls.0.names is "a": not a list'],
  [withRule('{"names": [], "action": "SCMP_ACT_KILL", "excludes": "x"}'), 'syscalls.0.excludes is "x": not an object'],
  [
    withArg('{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}'),
    'syscalls.0.args.0.index is 6: a call has six arguments, from 0',
  ],
  [
    withArg('{"index": 0, "value": "x", "op": "SCMP_CMP_EQ"}'),
    'syscalls.0.args.0.value is "x": not a whole number of 64 bits',
  ],
  [withArg('{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}'), /value is .*: more than 64 bits/],
])('readProfile(%j) is an error that teaches', (text, message) => {
  expect(() => readProfile(text)).toThrow(message)
})
