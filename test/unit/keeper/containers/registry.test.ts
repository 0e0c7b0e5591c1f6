import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ContainerEntry, Registry } from '../../../../src/keeper/containers/registry.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import { pidfdOpen } from '../../../../src/kernel/pidfd.ts'
import { CONTAINERS, LISTENERS, OWN_LISTENERS } from '../../../../src/link/limits.ts'
import { LIMITS } from '../../../../src/policy/limits.ts'
import { delegates, type Policy } from '../../../../src/policy/policy.ts'
import { defaults, parsePolicy } from '../../../../src/policy/settings.ts'
import type { Init } from '../../../../src/runtimes/inspect.ts'

const noFd = { raw: -1, [Symbol.dispose]() {} } as unknown as Fd

function container(registry: Registry, number: number): ContainerEntry {
  const handover = { id: `c${number}`, creating: true, pid: 0, bundle: '', annotations: {}, metadata: '' }
  return registry.add(handover, { policy: {}, settings: defaults }, undefined)
}

/** Takes listeners until there are none for this container. @returns their numbers */
function takeAll(registry: Registry, entry: ContainerEntry, most = Number.POSITIVE_INFINITY): number[] {
  const taken: number[] = []
  try {
    while (taken.length < most) taken.push(registry.hold(entry, noFd, 'listener'))
  } catch (error) {
    expect(() => {
      throw error
    }).toThrow(/is for other containers$/)
  }
  return taken
}

test.each([
  { greedy: 1, next: 300 },
  { greedy: 4, next: 100 },
  { greedy: 10, next: 40 },
  { greedy: 1023, next: OWN_LISTENERS },
])('hold(): after $greedy containers that take all they get, the next gets $next', ({ greedy, next }) => {
  const registry = new Registry()
  for (let number = 0; number < greedy; number++) takeAll(registry, container(registry, number))
  expect(takeAll(registry, container(registry, greedy)).length).toBeGreaterThanOrEqual(next)
})

test('hold(): by default a container gets what listenersPerContainer says, also beside three such', () => {
  const { usually } = LIMITS.listenersPerContainer
  const registry = new Registry()
  for (let number = 0; number < 4; number++) {
    expect(takeAll(registry, container(registry, number), usually)).toHaveLength(usually)
  }
})

test('hold(): all containers that there may be get their own, in whatever order, and what is released is there again', () => {
  const registry = new Registry()
  const entries = Array.from({ length: CONTAINERS }, (_, number) => container(registry, number))
  const taken = entries.map((entry) => takeAll(registry, entry))
  const first = taken[0]!.length
  expect(Math.min(...taken.map(({ length }) => length))).toBe(OWN_LISTENERS)
  expect(taken.flat().length).toBeLessThanOrEqual(LISTENERS)
  // Each keeps its first, so that it is not forgotten.
  for (const numbers of taken) for (const number of numbers.slice(1)) registry.release(number)
  expect(takeAll(registry, entries[0]!)).toHaveLength(first - 1)
})

test.each([
  { traps: ['fsconfig'], delegated: false },
  { traps: ['fsconfig', 'bpf'], delegated: true },
])('a container whose filter traps $traps gets BPF tokens: $delegated', ({ traps, delegated }) => {
  const bundle = mkdtempSync(join(tmpdir(), 'intercede-tokens-'))
  try {
    const syscalls = [{ names: traps, action: 'SCMP_ACT_NOTIFY' }]
    writeFileSync(join(bundle, 'config.json'), JSON.stringify({ linux: { seccomp: { syscalls } } }))
    const policy = parsePolicy([
      ['security.syscalls.intercept.bpf', 'true'],
      ['security.syscalls.intercept.bpf.delegate_cmds', 'prog_load'],
    ])
    const handover = { id: 'c', creating: true, pid: 0, bundle, annotations: {}, metadata: '' }
    const registry = new Registry()
    const added = registry.add(handover, { policy, settings: defaults }, undefined)
    expect(delegates(added.container.policy)).toBe(delegated)
    registry.change(added, { policy: {}, settings: defaults }, [])
    registry.change(added, { policy, settings: defaults }, [])
    expect(delegates(added.container.policy)).toBe(delegated)
  } finally {
    rmSync(bundle, { recursive: true })
  }
})

test('a container of LXC may still have BPF tokens after its monitor has connected again, whatever its policy is now', () => {
  using own = pidfdOpen(process.pid)
  const init = { handles: { init: own }, [Symbol.dispose]() {} } as unknown as Init
  const handover = {
    id: 'lxc',
    isLate: true,
    creating: true,
    pid: process.pid,
    bundle: '',
    annotations: {},
    metadata: '',
  }
  const registry = new Registry()
  const delegating = parsePolicy([
    ['security.syscalls.intercept.bpf', 'true'],
    ['security.syscalls.intercept.bpf.delegate_cmds', 'prog_load'],
  ])
  const connect = (policy: Policy): ContainerEntry => {
    const before = registry.partedFrom(handover)
    const entry = registry.add(handover, { policy, settings: defaults }, init, before)
    registry.hold(entry, noFd, 'monitor', 1)
    return entry
  }
  expect(connect({}).container.mayHaveTokens).toBe(undefined)
  for (const policy of [delegating, {}, {}]) {
    registry.release(1)
    expect(connect(policy).container.mayHaveTokens).toBe(true)
  }
  expect([...registry.lxcSets.values()]).toMatchObject([{ set: [], mayHaveTokens: true }])
})

test('known(): an id is one of a place; who comes from nowhere known gets the only one, and none of several', () => {
  const registry = new Registry()
  const said = { id: 'web', pid: 0, bundle: '', annotations: {}, metadata: '' }
  const add = (place: string): ContainerEntry => {
    const entry = registry.add({ ...said, creating: true, place }, { policy: {}, settings: defaults }, undefined)
    registry.hold(entry, noFd, 'listener', Number(place.slice(1)))
    return entry
  }
  const exec = (place?: string) => registry.known({ ...said, creating: false, ...(place && { place }) })
  const first = add('/1')
  expect([exec('/1'), exec('/2'), exec()]).toEqual([first, undefined, first])
  const second = add('/2')
  expect([exec('/1'), exec('/2'), exec('/3'), exec()]).toEqual([first, second, undefined, undefined])
  registry.release(1)
  expect([exec('/1'), exec('/2'), exec()]).toEqual([undefined, second, second])
})
