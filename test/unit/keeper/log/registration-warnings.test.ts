import { expect, test } from 'vitest'
import { registrationWarnings } from '../../../../src/keeper/log/event-log.ts'
import type { KeyValueLine } from '../../../../src/policy/key-value-lines.ts'
import { parsePolicy, settle, toPolicy } from '../../../../src/policy/settings.ts'

const handover = { id: 'one', creating: true, pid: 7, bundle: '', annotations: {}, metadata: '' }
const registered = (keys: readonly string[], changes: object = {}) => ({
  ...{ type: 'registered' as const, handover, barred: undefined, unruly: undefined, withheld: [] },
  resolved: { policy: parsePolicy(keys.map((key) => [key, 'true'])), details: {} },
  ...changes,
})

const given = (entries: readonly KeyValueLine[], traps?: readonly string[]) => {
  const settings = settle(entries)
  const resolved = { policy: toPolicy(settings), settings, details: {} }
  return { ...registered([]), resolved, traps: traps ? new Set(traps) : ('unknown' as const) }
}

test.each([
  { what: 'nothing', event: registered(['mknod', 'bpf', 'bpf.devices']), says: [] },
  {
    what: 'a container in the root cgroup',
    event: registered(['bpf', 'bpf.devices'], { unruly: 'rootCgroup' }),
    says: [/^the container is in the root cgroup.*: start the container with a cgroup manager/],
  },
  {
    what: 'one whose cgroup is not seen',
    event: registered(['bpf', 'bpf.devices'], { unruly: 'noCgroup' }),
    says: [/no cgroup of the unified hierarchy/],
  },
  { what: 'the same without the keys', event: registered(['mknod'], { unruly: 'rootCgroup' }), says: [] },
  {
    what: 'a container that gets nothing at all',
    event: registered(['bpf', 'bpf.devices'], { barred: 'hostUserns', unruly: 'rootCgroup' }),
    says: [/no user namespace of its own/],
  },
  {
    what: 'a container whose policy is invalid',
    event: registered([], { barred: 'policyInvalid', wrong: 'unknown profile "buidl"' }),
    says: [/^its policy cannot be used: unknown profile "buidl"/],
  },
  {
    what: 'a container of a user',
    event: registered(['sysinfo'], { withheld: ['security.syscalls.intercept.mknod'] }),
    says: [
      /^security.syscalls.intercept.mknod: intercede runs for a user here.*only root of the host.*: have the admin/,
    ],
  },
  {
    what: 'a container whose own keys its filter does not trap',
    event: given(
      [
        ['mknod', 'true', { kind: 'metadata' }],
        ['sysinfo', 'true', { kind: 'profile', name: 'memory' }],
      ],
      ['mknod', 'mknodat'],
    ),
    says: [/intercept\.sysinfo: the filter of the container does not trap sysinfo: make its profile with this key$/],
  },
  {
    what: 'keys of the configuration that a container has no filter for',
    event: given(
      [
        ['mknod', 'true', { kind: 'metadata' }],
        ['sysinfo', 'true', { kind: 'configuration' }],
      ],
      ['mknod', 'mknodat'],
    ),
    says: [],
  },
  {
    what: 'an option of the configuration whose call the metadata has',
    event: given([
      ['mknod.devices', 'c:10:200', { kind: 'configuration' }],
      ['mknod', 'true', { kind: 'metadata' }],
    ]),
    says: [],
  },
  {
    what: 'an option of the metadata without its call',
    event: given([['mknod.devices', 'c:10:200', { kind: 'metadata' }]]),
    says: [/^mknod\.devices does nothing without mknod=true$/],
  },
  {
    what: 'an option whose call an annotation switched off',
    event: given([
      ['mknod.devices', 'c:10:200', { kind: 'metadata' }],
      ['mknod', 'false', { kind: 'annotation' }],
    ]),
    says: [],
  },
  {
    what: 'a set option whose call an annotation switched off',
    event: given([
      ['mknod', 'false', { kind: 'annotation' }],
      ['mknod.devices', 'c:10:200', { kind: 'set' }],
    ]),
    says: [/^mknod\.devices does nothing without mknod=true$/],
  },
])('obstacles() of $what, in words', ({ event, says }) => {
  const said = registrationWarnings(event)
  expect(said).toHaveLength(says.length)
  for (const [index, pattern] of says.entries()) expect(said[index]).toMatch(pattern)
})
