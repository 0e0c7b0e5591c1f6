import { expect, test } from 'vitest'
import { adviceOf, formatAdvice } from '../../../src/cli/advice.ts'
import { keysNeeded } from '../../../src/cli/ways-to-allow.ts'
import type { RefusalView } from '../../../src/memories/refusal-view.ts'
import type { KeyName } from '../../../src/policy/keys.ts'
import type { ContainerView } from '../../../src/reader/container-fields.ts'

const refusal = (call: string, reason: string, wants?: { key: 'mknod' | 'mknod.devices'; value: string }) => ({
  ...{ kind: '', count: 1, call, reason, says: reason },
  ...(wants ? { wants } : {}),
})
const TUN = refusal('mknod("n", S_IFCHR|0666, 10:200)', 'deviceNotAllowed', { key: 'mknod.devices', value: 'c:10:200' })

test.each([
  { what: 'a device', given: { mknod: 'true', setxattr: 'true' }, refused: TUN, unused: ['setxattr'] },
  {
    what: 'a mount by a program that is missing',
    given: { mount: 'true', 'mount.fuse': 'ext4=fuse2fs', mknod: 'true' },
    refused: refusal('mount("i", "m", "ext4", 0, NULL)', 'fuseNoProgram'),
    unused: ['mknod'],
  },
  {
    what: 'what observe mode left',
    given: { mknod: 'true', 'mknod.devices': 'c:10:200' },
    refused: refusal('mknod("n", S_IFCHR|0666, 10:229)', 'observedAct'),
    unused: ['mknod', 'mknod.devices=c:10:200'],
  },
])('keys that $what has passed are not unused', ({ given, refused, unused }) => {
  const keys = new Map(Object.entries(given)) as ReadonlyMap<KeyName, string>
  expect(adviceOf({ used: [], refused: [refused], unnamed: 0 }, keys).unused).toEqual(unused)
})

test('what was refused is shown with all keys that it takes', () => {
  const text = formatAdvice(adviceOf({ used: [], refused: [TUN], unnamed: 0 }, new Map()), '')
  expect(text).toMatch(/^mknod mknod\.devices=c:10:200 +1 /m)
})

test('a call that does nothing without an option of its key is shown with the one that it needs', () => {
  const call = 'mknod("n", S_IFCHR|0666, 10:200)'
  const off = refusal(call, 'keyOff', { key: 'mknod', value: 'true' })
  const view = { state: 'ended', about: { keys: { mknod: { value: 'false', origin: 'default' } } } }
  const needs = keysNeeded(view as unknown as ContainerView, off as unknown as RefusalView)
  expect(needs).toEqual([
    { key: 'mknod', value: 'true' },
    { key: 'mknod.devices', value: 'c:10:200' },
  ])
  const text = formatAdvice(adviceOf({ used: [], refused: [{ ...off, needs }], unnamed: 0 }, new Map()), '')
  expect(text).toMatch(/^mknod mknod\.devices=c:10:200 +1 /m)
})
