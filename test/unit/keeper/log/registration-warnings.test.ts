import { expect, test } from 'vitest'
import { registrationWarnings } from '../../../../src/keeper/log/registration-warnings.ts'
import { parsePolicy } from '../../../../src/policy/settings.ts'

const handover = { id: 'one', creating: true, pid: 7, bundle: '', annotations: {}, metadata: '' }
const registered = (keys: readonly string[], changes: object = {}) => ({
  ...{ type: 'registered' as const, handover, barred: undefined, unruly: undefined, withheld: [] },
  resolved: { policy: parsePolicy(keys.map((key) => [key, 'true'])), details: {} },
  ...changes,
})

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
    what: 'a container of a user',
    event: registered(['sysinfo'], { withheld: ['security.syscalls.intercept.mknod'] }),
    says: [
      /^security.syscalls.intercept.mknod: intercede runs for a user here.*only root of the host.*: have the admin/,
    ],
  },
])('obstacles() of $what', ({ event, says }) => {
  const said = registrationWarnings(event)
  expect(said).toHaveLength(says.length)
  for (const [index, pattern] of says.entries()) expect(said[index]).toMatch(pattern)
})
