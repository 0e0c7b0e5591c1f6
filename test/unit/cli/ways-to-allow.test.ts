import { expect, test } from 'vitest'
import { kernelAnswer, remedyHere, waysToAllow } from '../../../src/cli/explain.ts'
import type { RefusalView } from '../../../src/memories/refusal-view.ts'
import type { KeyName } from '../../../src/policy/keys.ts'
import type { ContainerView } from '../../../src/reader/container-fields.ts'

const P = 'security.syscalls.intercept.'
const DEVICES = 'mknod.devices'
const AT = 'in /etc/other.yaml, then "intercede reload"'
const daemon = { forUser: false, configPath: '/etc/other.yaml' }
const on = { mknod: { value: 'true', origin: 'profile build' } }

interface Row {
  readonly is: string
  readonly key: KeyName
  readonly value: string
  readonly about: object
  readonly set: string
  readonly forGood: string
}

test.each<Row>([
  {
    ...{ is: 'a default', key: DEVICES, value: 'c:10:200', about: {} },
    set: 'intercede set abc mknod.devices=c:10:200',
    forGood: `"${P}mknod.devices: c:10:200" under default: or in its profile ${AT}`,
  },
  {
    ...{ is: 'what was set over a profile', key: DEVICES, value: 'c:10:200' },
    about: { keys: { ...on, [DEVICES]: { value: 'c:10:200', origin: 'set' } } },
    set: 'nothing: it is allowed by now',
    forGood: `"${P}mknod.devices: c:10:200" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'more than was set', key: DEVICES, value: 'c:10:229' },
    about: { keys: { mknod: { value: 'true', origin: 'metadata' }, [DEVICES]: { value: 'c:10:200', origin: 'set' } } },
    set: 'intercede set abc mknod.devices=c:10:200,c:10:229',
    forGood: 'make its seccomp profile with its keys and -c mknod.devices=c:10:200,c:10:229, and the container anew',
  },
  {
    ...{ is: 'what was set over the only key of a profile', key: 'mknod', value: 'true' },
    about: { profile: 'off', keys: { mknod: { value: 'true', origin: 'set' } } },
    set: 'nothing: it is allowed by now',
    forGood: `"${P}mknod: true" under profiles: off: ${AT}`,
  },
  {
    ...{ is: 'what was set over an annotation', key: 'mknod', value: 'true' },
    about: { annotations: { [`${P}mknod`]: 'false' }, keys: { mknod: { value: 'true', origin: 'set' } } },
    set: 'nothing: it is allowed by now',
    forGood: `change the annotation ${P}mknod of the container`,
  },
  {
    ...{ is: 'what a profile has by now', key: 'mknod', value: 'true', about: { keys: on } },
    ...{ set: 'nothing: it is allowed by now', forGood: 'nothing: it is allowed by now' },
  },
  {
    ...{ is: 'what is above a ceiling', key: DEVICES, value: 'c:10:229' },
    about: { keys: { ...on, [DEVICES]: { value: 'c:10:200', origin: 'profile build', ceiling: 'c:10:200' } } },
    set: 'nothing: it is above the ceiling "c:10:200" of the configuration',
    forGood: `raise its ceiling first: "${P}mknod.devices: c:10:200,c:10:229" under ceiling: ${AT}; and "${P}mknod.devices: c:10:200,c:10:229" under profiles: build: ${AT}`,
  },
])('what allows $is', ({ key, value, about, set, forGood }) => {
  const view = { id: 'abc', runtime: 'crun', about } as unknown as ContainerView
  const wants = { wants: { key, value } } as RefusalView
  expect(waysToAllow(view, wants, { word: 'abc', daemon, knows: () => true })).toMatchObject({ set, forGood })
})

test('nothing is offered for a file system that the kernel does not have', () => {
  const view = { id: 'abc', runtime: 'crun', about: {} } as unknown as ContainerView
  const wants = { wants: { key: 'mount.allowed', value: 'ext9' } } as RefusalView
  expect(waysToAllow(view, wants, { word: 'abc', daemon, knows: (name) => name === 'ext4' })).toBeUndefined()
})

test('of an older daemon it is not known which configuration it reads', () => {
  const view = { id: 'abc', runtime: 'crun', about: {} } as unknown as ContainerView
  const wants = { wants: { key: 'mknod', value: 'true' } } as RefusalView
  const ways = waysToAllow(view, wants, { word: 'abc', daemon: {}, knows: () => true })
  expect(ways?.forGood).toContain("in its profile in the daemon's configuration, then")
})

test.each([
  {
    errno: 'ENOTBLK',
    call: 'mount("/x")',
    says: 'answered ENOTBLK, usually because the source is a file, not a block device',
  },
  { errno: 'EXDEV', call: 'mount("/x")', says: 'answered EXDEV; "man 2 mount" lists' },
])('kernelAnswer() to $errno', ({ says, ...refusal }) => {
  expect(kernelAnswer(refusal)).toContain(says)
})

test.each([
  { state: 'served', origin: 'set', remedy: 'nothing: it is allowed by now' },
  { state: 'ended', origin: 'profile build', remedy: 'nothing: it is allowed by now' },
  ...['ended', 'unserved', 'unknown'].map((state) => ({
    ...{ state, origin: 'set', remedy: 'turn it on for good: "intercede set" did so only for this container' },
  })),
])('a container that is $state, and has by its $origin what it was refused: $remedy', ({ state, origin, remedy }) => {
  const view = { state, about: { keys: { mknod: { value: 'true', origin } } } } as unknown as ContainerView
  const refusal = { reason: 'keyOff', wants: { key: 'mknod', value: 'true' } } as RefusalView
  expect(remedyHere(view, refusal)).toEqual({ remedy })
})
