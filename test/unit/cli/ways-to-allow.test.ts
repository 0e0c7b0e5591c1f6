import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelAnswer, remedyHere, waysOf, waysToAllow } from '../../../src/cli/ways-to-allow.ts'
import type { RefusalView } from '../../../src/memories/refusal-view.ts'
import type { KeyName } from '../../../src/policy/keys.ts'
import type { ContainerView } from '../../../src/reader/container-fields.ts'

const P = 'security.syscalls.intercept.'
const DEVICES = 'mknod.devices'
const CHOOSE =
  'mount=true does nothing alone: choose mount.allowed=TYPE or mount.fuse=TYPE=PROGRAM too, for what it mounts'
const AT = 'in /etc/other.yaml, then "intercede reload"'
const daemon = { forUser: false, configPath: '/etc/other.yaml' }
/** What `set` has given, and what would hold without it. */
const set = (value: string, instead = '', origin = 'default') => ({
  value,
  origin: 'set',
  instead: { value: instead, origin },
})
const NULL = 'mknod("n", S_IFCHR|0666, 1:3)'
const on = { mknod: { value: 'true', origin: 'profile build' } }

interface Row {
  readonly is: string
  readonly key: KeyName
  readonly value: string
  readonly about: object
  readonly state?: string
  readonly now: string
  readonly forGood: string
}

const KNOWN = { value: 'true', origin: 'configuration' }
test.each<Row>([
  {
    ...{ is: 'a default', key: DEVICES, value: 'c:10:200', about: {} },
    now: 'intercede set abc mknod.devices=c:10:200',
    forGood: `"${P}mknod.devices: c:10:200" under default: or in its profile ${AT}`,
  },
  {
    ...{ is: 'what the default of the configuration has', key: DEVICES, value: 'c:10:200' },
    about: { keys: { mknod: KNOWN, [DEVICES]: { ...KNOWN, value: 'c:5:2' } } },
    now: 'intercede set abc mknod.devices=c:5:2,c:10:200',
    forGood: `"${P}mknod.devices: [c:5:2, c:10:200]" in place of its value under default: or in its profile ${AT}`,
  },
  {
    ...{ is: 'what was set over a profile', key: DEVICES, value: 'c:10:200' },
    about: { keys: { ...on, [DEVICES]: set('c:10:200') } },
    now: 'nothing: it is allowed by now',
    forGood: `"${P}mknod.devices: c:10:200" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'more than was set', key: DEVICES, value: 'c:10:229' },
    about: { keys: { mknod: { value: 'true', origin: 'metadata' }, [DEVICES]: set('c:10:200', 'c:5:2', 'metadata') } },
    now: 'intercede set abc mknod.devices=c:10:200,c:10:229',
    forGood:
      'make its seccomp profile with its keys and -c mknod.devices=c:5:2,c:10:229, and the container anew; in this container "intercede set" holds over it',
  },
  {
    ...{ is: 'what was set to off, which its profile has', key: 'mknod', value: 'true' },
    about: { profile: 'build', keys: { mknod: set('false', 'true', 'profile build') } },
    now: 'intercede set abc mknod=true',
    forGood: 'intercede set abc --unset mknod',
  },
  {
    ...{ is: 'what had been set to off and on again', key: 'mknod', value: 'true' },
    about: { profile: 'build', keys: { mknod: set('true', 'true', 'profile build') } },
    ...{ now: 'nothing: it is allowed by now', forGood: 'nothing: it is allowed by now' },
  },
  {
    ...{ is: 'what had been set to off for a container that ended', key: 'mknod', value: 'true', state: 'ended' },
    about: { profile: 'build', keys: { mknod: set('false', 'false', 'profile build') } },
    now: 'intercede set abc mknod=true',
    forGood: `unless that is so already: "${P}mknod: true" in place of its value under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'what had been set to off over a profile for a container that ended', key: 'mknod', value: 'true' },
    state: 'ended',
    about: { profile: 'build', keys: { mknod: set('false', 'true', 'profile build') } },
    now: 'intercede set abc mknod=true',
    forGood: 'nothing, unless the configuration has changed since: it allowed that when the container was last served',
  },
  {
    ...{ is: 'a default of a container with a profile that ended', key: DEVICES, value: 'c:10:200', state: 'ended' },
    about: { profile: 'build', keys: on },
    now: 'intercede set abc mknod.devices=c:10:200',
    forGood: `unless that is so already: "${P}mknod.devices: c:10:200" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'what was set over the only key of a profile', key: 'mknod', value: 'true' },
    about: { profile: 'off', keys: { mknod: set('true', 'false', 'profile off') } },
    now: 'nothing: it is allowed by now',
    forGood: `"${P}mknod: true" in place of its value under profiles: off: ${AT}`,
  },
  {
    ...{ is: 'what was set over an annotation', key: 'mknod', value: 'true' },
    about: { keys: { mknod: set('true', 'false', 'annotation') } },
    now: 'nothing: it is allowed by now',
    forGood: `change the annotation ${P}mknod of the container, and where its profile lacks the value too, the profile: an annotation only lowers`,
  },
  {
    ...{ is: 'a default of a container with keys in its seccomp profile', key: DEVICES, value: 'c:10:200' },
    about: { keys: { mknod: { value: 'true', origin: 'metadata' } } },
    now: 'intercede set abc mknod.devices=c:10:200',
    forGood: 'make its seccomp profile with its keys and -c mknod.devices=c:10:200, and the container anew',
  },
  {
    ...{ is: 'what the configuration gives to all, of a container with a profile', key: DEVICES, value: 'c:10:200' },
    about: { profile: 'build', keys: { ...on, [DEVICES]: { value: 'c:5:2', origin: 'configuration' } } },
    now: 'intercede set abc mknod.devices=c:5:2,c:10:200',
    forGood: `"${P}mknod.devices: [c:5:2, c:10:200]" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'what a profile has by now', key: 'mknod', value: 'true', about: { keys: on } },
    ...{ now: 'nothing: it is allowed by now', forGood: 'nothing: it is allowed by now' },
  },
  {
    ...{ is: 'an option of a call that was set to off', key: DEVICES, value: 'c:10:200' },
    about: {
      profile: 'build',
      keys: { mknod: set('false', 'false', 'profile build'), [DEVICES]: set('c:10:200') },
    },
    now: 'intercede set abc mknod=true',
    forGood: `"${P}mknod: true" in place of its value under profiles: build: ${AT}; in this container "intercede set" holds over it; and "${P}mknod.devices: c:10:200" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'more than an option has of a call that a profile turns off', key: DEVICES, value: 'c:10:200' },
    about: { keys: { mknod: { value: 'false', origin: 'profile build' } } },
    now: 'intercede set abc mknod=true mknod.devices=c:10:200',
    forGood: `"${P}mknod: true" in place of its value under profiles: build: ${AT}; and "${P}mknod.devices: c:10:200" under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'mount with its list', key: 'mount', value: 'true' },
    about: {
      keys: {
        mount: { value: 'false', origin: 'profile media' },
        'mount.allowed': { value: 'ext4', origin: 'profile media' },
      },
    },
    now: 'intercede set abc mount=true',
    forGood: `"${P}mount: true" in place of its value under profiles: media: ${AT}`,
  },
  {
    ...{ is: 'mount without its list', key: 'mount', value: 'true', about: {} },
    now: CHOOSE,
    forGood: `"${P}mount: true" under default: or in its profile ${AT}; and ${CHOOSE}`,
  },
  {
    ...{ is: 'bpf without what it does', key: 'bpf', value: 'true', about: {} },
    now: 'intercede set abc bpf=true bpf.devices=true',
    forGood: `"${P}bpf: true" under default: or in its profile ${AT}; and "${P}bpf.devices: true" under default: or in its profile ${AT}`,
  },
  {
    ...{ is: 'what is observed', key: 'mknod', value: 'true', state: 'observed' },
    about: { keys: { mode: { value: 'observe', origin: 'profile build' } }, profile: 'build' },
    now: 'intercede set abc mknod=true mode=enforce',
    forGood: `"${P}mknod: true" under profiles: build: ${AT}; and "${P}mode: enforce" in place of its value under profiles: build: ${AT}`,
  },
  {
    ...{ is: 'what needs a call that is above its ceiling', key: DEVICES, value: 'c:10:200' },
    about: { keys: { mknod: { value: 'false', origin: 'default', ceiling: 'false' } } },
    now: 'nothing: mknod is above the ceiling "false" of the configuration',
    forGood: `raise its ceiling first: "${P}mknod: true" under ceiling: ${AT}; and "${P}mknod: true" under default: or in its profile ${AT}; and "${P}mknod.devices: c:10:200" under default: or in its profile ${AT}`,
  },
  {
    ...{ is: 'what is above a ceiling', key: DEVICES, value: 'c:10:229' },
    about: { keys: { ...on, [DEVICES]: { value: 'c:10:200', origin: 'profile build', ceiling: 'c:10:200' } } },
    now: 'nothing: it is above the ceiling "c:10:200" of the configuration',
    forGood: `raise its ceiling first: "${P}mknod.devices: [c:10:200, c:10:229]" under ceiling: ${AT}; and "${P}mknod.devices: [c:10:200, c:10:229]" in place of its value under profiles: build: ${AT}`,
  },
])('what allows $is', ({ key, value, about, state = 'served', now, forGood }) => {
  const view = { id: 'abc', runtime: 'crun', state, about } as unknown as ContainerView
  const wants = { wants: { key, value } } as RefusalView
  const ways = waysToAllow(view, wants, { word: 'abc', daemon, knows: () => true })
  expect(ways).toMatchObject({ now, forGood })
  // Whoever takes it from JSON to run it gets no sentence.
  expect(ways?.set).toBe(now.startsWith('intercede set ') ? now : undefined)
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
  {
    ...{ state: 'ended', origin: 'profile build' },
    remedy: 'nothing, unless the configuration has changed since: it allowed that when the container was last served',
  },
  {
    ...{ state: 'left', origin: 'profile build' },
    remedy: 'nothing of its policy, which allows it by now: all calls are left to the kernel',
  },
  ...['ended', 'unserved', 'unknown'].map((state) => ({
    ...{ state, origin: 'set', remedy: 'allow it for good: "intercede set" did so only for this container' },
  })),
])('a container that is $state, and has by its $origin what it was refused: $remedy', ({ state, origin, remedy }) => {
  const all = { mknod: { value: 'true', origin }, 'mknod.devices': { value: 'c:10:200', origin } }
  const view = { state, about: { keys: all } } as unknown as ContainerView
  for (const wants of [
    { key: 'mknod', value: 'true' },
    { key: DEVICES, value: 'c:10:200' },
  ]) {
    const call = NULL
    const refusal = { call, reason: wants.key === DEVICES ? 'deviceNotAllowed' : 'keyOff', wants } as RefusalView
    expect(remedyHere(view, refusal)).toEqual({ remedy })
  }
})

test.each([
  { what: 'its kernel lacks', wants: { key: 'mount.allowed', value: 'ext9' }, remedy: 'mount it by FUSE: this kernel' },
  { what: 'its kernel has', wants: { key: 'mount.allowed', value: 'ext4' }, remedy: undefined },
  { what: 'no key allows', wants: undefined, remedy: undefined },
])('remedyHere() of a file system that $what: $remedy', ({ wants, remedy = '' }) => {
  const view = { state: 'served', about: {} } as unknown as ContainerView
  const refusal = { reason: 'fileSystemNotAllowed', wants } as RefusalView
  expect(remedyHere(view, refusal, (name) => name === 'ext4').remedy ?? '').toMatch(
    new RegExp(`^${remedy}${remedy && '.*ext9'}`),
  )
})

test('a container in observe mode is told to enforce what its keys allow by now', () => {
  const all = { mknod: { value: 'true', origin: 'profile build' }, mode: { value: 'observe', origin: 'set' } }
  const view = { id: 'abc', state: 'observed', runtime: 'crun', about: { keys: all } } as unknown as ContainerView
  const refusal = { call: NULL, reason: 'keyOff', wants: { key: 'mknod', value: 'true' } } as RefusalView
  expect(remedyHere(view, refusal).remedy).toBe(`set ${P}mode to enforce: the other keys allow it by now`)
  const ways = waysToAllow(view, refusal, { word: 'abc', daemon, knows: () => true })
  expect(ways).toMatchObject({ set: 'intercede set abc mode=enforce', forGood: 'intercede set abc --unset mode' })
})

test('what only "intercede set" enforces is still observed for good', () => {
  const instead = { value: 'observe', origin: 'profile build' }
  const all = { mknod: KNOWN, mode: { value: 'enforce', origin: 'set', instead } }
  const told = (state: string) => {
    const view = {
      id: 'abc',
      state,
      runtime: 'crun',
      about: { profile: 'build', keys: all },
    } as unknown as ContainerView
    const refusal = { reason: 'observedAct', call: NULL } as RefusalView
    return { ...remedyHere(view, refusal), ...waysOf(view, refusal, { word: 'abc', daemon }) }
  }
  const line = `"${P}mode: enforce" in place of its value under profiles: build: ${AT}`
  const is = 'nothing: the container is no longer observed'
  expect(told('served')).toMatchObject({ remedy: is, now: 'nothing: it is allowed by now', forGood: line })
  expect(told('served')).not.toHaveProperty('set')
  const over = told('ended')
  expect(over.remedy).toMatch(/^allow it for good: "intercede set" did so only for this container/)
  expect(over.forGood).toBe(`unless that is so already: ${line}`)
  expect(over).not.toHaveProperty('now')
})

test.each([
  {
    what: 'under a ceiling',
    keys: {
      mknod: { value: 'true', origin: 'profile build' },
      mode: { value: 'observe', origin: 'default', ceiling: 'observe', asked: 'enforce' },
    },
    now: 'nothing: mode is above the ceiling "observe" of the configuration',
    forGood: `raise its ceiling: "${P}mode: enforce" under ceiling: ${AT}`,
  },
  {
    what: 'by a profile, of a device that was only set',
    keys: {
      mknod: { value: 'true', origin: 'profile build' },
      [DEVICES]: set('c:10:200'),
      mode: { value: 'observe', origin: 'profile build' },
    },
    now: 'intercede set abc mode=enforce',
    forGood: `"${P}mknod.devices: c:10:200" under profiles: build: ${AT}; and "${P}mode: enforce" in place of its value under profiles: build: ${AT}`,
  },
  {
    what: 'by a profile, of a device that was unset since',
    keys: { mknod: { value: 'true', origin: 'profile build' }, mode: { value: 'observe', origin: 'profile build' } },
    now: 'intercede set abc mknod.devices=c:10:200 mode=enforce',
    forGood: `"${P}mknod.devices: c:10:200" under profiles: build: ${AT}; and "${P}mode: enforce" in place of its value under profiles: build: ${AT}`,
  },
])('what is observed $what takes all that the call needs', ({ keys, now, forGood }) => {
  const about = { profile: 'build', keys }
  const view = { id: 'abc', state: 'observed', runtime: 'crun', about } as unknown as ContainerView
  const call = 'mknodat(AT_FDCWD, "n", S_IFCHR|0666, 10:200)'
  const asked = 'mode' in keys && keys.mode.origin === 'default' ? NULL : call
  const ways = waysToAllow(view, { call: asked, reason: 'observedAct' } as RefusalView, {
    word: 'abc',
    daemon,
    knows: () => true,
  })
  expect(ways).toMatchObject({ now, forGood })
})

test('what to do about a call that was observed says what it lacks by now', () => {
  const keys = { mknod: KNOWN, mode: { value: 'enforce', origin: 'set' } }
  const view = { id: 'abc', state: 'served', runtime: 'crun', about: { keys } } as unknown as ContainerView
  const call = 'mknodat(AT_FDCWD, "n", S_IFCHR|0666, 10:200)'
  expect(remedyHere(view, { call, reason: 'observedAct' } as RefusalView).remedy).toBe(
    'add mknod.devices=c:10:200: it is no longer observed',
  )
})

test('no order is named for what "intercede set" had observed once that has ended', () => {
  const instead = { value: 'enforce', origin: 'default' }
  const all = { mknod: KNOWN, mode: { value: 'observe', origin: 'set', instead } }
  const view = { id: 'abc', state: 'ended', runtime: 'crun', about: { keys: all } } as unknown as ContainerView
  const { forGood } = waysOf(view, { reason: 'observedAct', call: NULL } as RefusalView, { word: 'abc', daemon })
  expect(forGood).toBe('nothing: only "intercede set" had this container observed')
})

test('of a history of another daemon no order is named', () => {
  const all = { mknod: { value: 'false', origin: 'profile build' } }
  const view = { id: 'abc', state: 'unknown', runtime: 'crun', about: { keys: all } } as unknown as ContainerView
  const refusal = { call: NULL, reason: 'keyOff', wants: { key: 'mknod', value: 'true' } } as RefusalView
  const ways = waysOf(view, refusal, { word: 'abc', daemon: undefined })
  expect(ways.forGood).toBe(
    `"${P}mknod: true" in place of its value under profiles: build: in the configuration of its daemon, then a reload of that`,
  )
  expect(ways).not.toHaveProperty('set')
})

test('what another reason leaves to the kernel is not done once the container is enforced', () => {
  const all = { mknod: KNOWN, mode: { value: 'observe', origin: 'profile build' } }
  const view = { id: 'abc', state: 'observed', runtime: 'crun', about: { keys: all } } as unknown as ContainerView
  const waysFor = (reason: string) => waysOf(view, { reason, call: NULL } as RefusalView, { word: 'abc', daemon })
  expect(waysFor('observedAct').set).toBe('intercede set abc mode=enforce')
  expect(waysFor('rootCgroup')).toEqual({})
  expect(waysFor('observedAct').set).toBe('intercede set abc mode=enforce')
})

test('what was only observed is done once it is enforced, which is no order to a run', () => {
  const waysIn = (runtime: string, origin = 'profile build', instead?: object) => {
    const all = { mknod: KNOWN, mode: { value: 'observe', origin, ...(instead && { instead }) } }
    const view = { id: 'abc', state: 'observed', runtime, about: { keys: all } } as unknown as ContainerView
    const ways = waysToAllow(view, { reason: 'observedAct', call: NULL } as RefusalView, {
      word: 'abc',
      daemon,
      knows: () => true,
    })
    return [ways?.now, ways?.forGood]
  }
  const profile = expect.stringMatching(/^"\S+mode: enforce" in place of its value under profiles: build: in /)
  expect(waysIn('crun')).toEqual(['intercede set abc mode=enforce', profile])
  const before = { value: 'enforce', origin: 'default' }
  expect(waysIn('crun', 'set', before)[1]).toBe('intercede set abc --unset mode')
  expect(waysIn('run')).toEqual([
    expect.stringMatching(/^nothing: the policy of a run/),
    expect.stringMatching(/^leave /),
  ])
})

test('what was only observed has its remedy until the container is no longer observed', () => {
  const of = (value: string): ContainerView =>
    ({
      state: value === 'observe' ? 'observed' : 'served',
      about: { keys: { mode: { value } } },
    }) as unknown as ContainerView
  const refusal = { reason: 'observedAct' } as RefusalView
  expect(remedyHere(of('observe'), refusal)).toEqual({})
  expect(remedyHere(of('enforce'), refusal)).toEqual({ remedy: 'nothing: the container is no longer observed' })
})

test.each([
  { state: 'served', remedy: 'nothing: an engine serves by now, so repeat the call' },
  { state: 'observed', remedy: 'nothing: an engine serves by now, so repeat the call' },
  { state: 'left', remedy: undefined },
  { state: 'ended', remedy: undefined },
])('a call that no engine served, of a container that is $state: $remedy', ({ state, remedy }) => {
  const view = { state, about: {} } as unknown as ContainerView
  expect(remedyHere(view, { reason: 'noEngine' } as RefusalView).remedy).toBe(remedy)
})

const KEY_OFF = 'nothing by this key, which is on by now: repeat the call, which may need more'
test.each([
  {
    ...{
      key: 'mknod',
      call: 'mknodat(AT_FDCWD, "n", S_IFCHR|0666, 10:200)',
      remedy: /^add mknod\.devices=c:10:200 too: /,
    },
    set: 'mknod=true mknod.devices=c:10:200',
  },
  { key: 'mknod', call: 'mknod("n", S_IFIFO|0666, 0)', remedy: /^nothing: it is allowed by now$/, set: 'mknod=true' },
  {
    ...{ key: 'mknod', call: 'mknod("n", S_IFBLK|0666, 8:1)', remedy: /^add mknod\.devices=granted too: / },
    set: 'mknod=true mknod.devices=granted',
  },
  { key: 'mknod', call: 'mknod("n", S_IFCHR|0666, 1:1)', remedy: KEY_OFF, set: 'mknod=true' },
  {
    ...{ key: 'mount', call: 'mount("/dev/loop0", "m", "ext4", 0, NULL)', remedy: /^add mount\.allowed=ext4 too: / },
    set: 'mount=true mount.allowed=ext4',
  },
  {
    key: 'sched_setscheduler',
    call: 'sched_setscheduler(0, SCHED_FIFO, 0x7ffe)',
    remedy: KEY_OFF,
    set: 'sched_setscheduler=true',
  },
  {
    key: 'setxattr',
    call: 'setxattr("d", "trusted.overlay.opaque", 0x2, 1, 0)',
    remedy: /^nothing: it is allowed by now$/,
    set: 'setxattr=true',
  },
  {
    ...{ key: 'setxattr', call: 'lsetxattr("d", "security.NTACL", 0x2, 1, 0)' },
    remedy: /^add setxattr\.allowed=security\.NTACL too: /,
    set: 'setxattr=true setxattr.allowed=security.NTACL',
  },
  // A name of a container must not add others to the list.
  ...['trusted.a,security.NTACL', 'trusted.*', 'security.ima'].map((name) => ({
    ...{ key: 'setxattr', call: `setxattr("d", "${name}", 0x2, 1, 0)`, remedy: KEY_OFF, set: 'setxattr=true' },
  })),
] as const)(
  'a key that was off when $call was refused is not all that it needs',
  ({ key, call, remedy, set: words }) => {
    const refusal = { call, reason: 'keyOff', wants: { key, value: 'true' } } as unknown as RefusalView
    const around = { word: 'abc', daemon, knows: () => true }
    const view = (value: string): ContainerView =>
      ({ about: { keys: { [key]: { value, origin: 'profile build' } } }, state: 'served' }) as unknown as ContainerView
    expect(waysToAllow(view('false'), refusal, around)?.set).toBe(`intercede set abc ${words}`)
    expect(remedyHere(view('true'), refusal, () => true).remedy).toMatch(remedy)
  },
)

test('a block device is not said to be allowed by now, since its rules decide, and its call is turned on for good too', () => {
  const call = 'mknod("n", S_IFBLK|0660, 7:0)'
  const refusal = { call, reason: 'notCharDevice', wants: { key: 'mknod.devices', value: 'granted' } } as RefusalView
  const around = { word: 'abc', daemon, knows: () => true }
  const view = (mknod: object, devices: string): ContainerView =>
    ({
      ...{ id: 'abc', state: 'served', runtime: 'crun' },
      about: { keys: { mknod, 'mknod.devices': { value: devices, origin: 'profile build' } } },
    }) as unknown as ContainerView
  const on = view({ value: 'true', origin: 'profile build' }, 'granted')
  expect(waysToAllow(on, refusal, around)).toMatchObject({ now: KEY_OFF, forGood: KEY_OFF })
  expect(remedyHere(on, refusal).remedy).toBe(KEY_OFF)
  const set = view({ value: 'true', origin: 'set', instead: { value: 'false', origin: 'profile build' } }, '')
  expect(waysToAllow(set, refusal, around)).toMatchObject({
    set: 'intercede set abc mknod.devices=granted',
    forGood: expect.stringMatching(
      /^unless its device rules name 7:0, start .*; and "\S+mknod: true" in place.*; and "\S+mknod\.devices: granted" /,
    ),
  })
})

const bundle = mkdtempSync(join(tmpdir(), 'intercede-bundle-'))
beforeAll(() => {
  const rule = (major: number | undefined, more: object) => ({ allow: true, type: 'b', major, access: 'rwm', ...more })
  const devices = [
    { allow: false, access: 'rwm' },
    rule(undefined, { access: 'm' }),
    rule(7, { minor: 5 }),
    rule(8, { minor: -1 }),
    rule(9, { minor: 1, access: 'rm' }),
    rule(10, { minor: 1, type: 'c' }),
  ]
  writeFileSync(join(bundle, 'config.json'), JSON.stringify({ linux: { resources: { devices } } }))
})
afterAll(() => rmSync(bundle, { recursive: true }))

test.each([
  ['7:5', true],
  ['7:9', false],
  ['8:3', true],
  ['9:1', false],
  ['10:1', false],
])('a block device is granted only where the device rules of the container name it: %s', (device, isNamed) => {
  const call = `mknodat(AT_FDCWD, "n", S_IFBLK|0660, ${device})`
  const view = { state: 'served', about: { bundle, profile: 'build', keys: on } } as unknown as ContainerView
  const off = { ...view, about: { bundle } } as unknown as ContainerView
  const granted = { call, reason: 'notCharDevice', wants: { key: DEVICES, value: 'granted' } } as RefusalView
  const keyOff = { call, reason: 'keyOff', wants: { key: 'mknod', value: 'true' } } as RefusalView
  const line = `"${P}mknod.devices: granted" under profiles: build: ${AT}`
  const start = `start the container with ${device}, for podman by --device; and `
  const now = `nothing: its device rules do not name ${device}, so granted does not make it`
  const around = { word: device, daemon }
  for (const [of, refusal, words] of [
    [view, granted, 'mknod.devices=granted'],
    [off, keyOff, 'mknod=true mknod.devices=granted'],
  ] as const)
    expect(waysOf(of, refusal, around).now).toBe(isNamed ? `intercede set ${device} ${words}` : now)
  expect(waysOf(view, granted, around)).toMatchObject({ forGood: isNamed ? line : `${start}${line}` })
})
