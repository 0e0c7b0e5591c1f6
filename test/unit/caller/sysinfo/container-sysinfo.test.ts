import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Level } from '../../../../src/caller/sysinfo/cgroup.ts'
import { asLxcfs, type HostSysinfo, uptime, withinLimits } from '../../../../src/caller/sysinfo/container-sysinfo.ts'

const MiB = 2 ** 20
const NONE = Number.POSITIVE_INFINITY

const machine: HostSysinfo = {
  totalram: 8000 * MiB,
  freeram: 500 * MiB,
  sharedram: 20 * MiB,
  bufferram: 100 * MiB,
  totalswap: 1000 * MiB,
  freeswap: 900 * MiB,
  available: 6000 * MiB,
}
const level = (changes: Partial<Level> = {}): Level => ({
  limit: NONE,
  usage: 0,
  used: 0,
  swapLimit: NONE,
  swapUsed: 0,
  shared: 0,
  kernelCache: 0,
  ...changes,
})
const { available: _, ...whole } = machine

describe('withinLimits()', () => {
  test.each([
    { what: 'no group at all', levels: [] },
    { what: 'groups without a limit', levels: [level({ used: 5 * MiB, shared: MiB }), level()] },
    { what: 'a limit beyond the machine', levels: [level({ limit: 9000 * MiB })] },
  ])('gives the figures of the machine for $what', ({ levels }) => {
    expect(withinLimits(machine, levels)).toEqual(whole)
  })

  test.each([
    {
      at: 'in the group itself',
      levels: [level({ limit: 123 * MiB, used: 23 * MiB }), level()],
      total: 123,
      free: 100,
    },
    {
      at: 'two levels above',
      levels: [level(), level(), level({ limit: 123 * MiB, used: 23 * MiB })],
      total: 123,
      free: 100,
    },
    {
      at: 'at several levels: what is free is least where most is used',
      levels: [level({ limit: 123 * MiB, used: 3 * MiB }), level({ limit: 200 * MiB, used: 190 * MiB })],
      total: 123,
      free: 10,
    },
    {
      at: 'that was lowered below what is used',
      levels: [level({ limit: 10 * MiB, used: 30 * MiB })],
      total: 10,
      free: 0,
    },
  ])('knows a limit $at', ({ levels, total, free }) => {
    expect(withinLimits(machine, levels)).toMatchObject({ totalram: total * MiB, freeram: free * MiB })
  })

  test('has no more free than the machine could give', () => {
    const levels = [level({ limit: 7000 * MiB })]
    expect(withinLimits(machine, levels)).toMatchObject({ totalram: 7000 * MiB, freeram: 6000 * MiB })
  })

  test.each([
    { limits: [level({ swapLimit: 0 })], total: 0, free: 0 },
    { limits: [level({ swapLimit: 100 * MiB, swapUsed: 30 * MiB })], total: 100, free: 70 },
    {
      limits: [level({ swapLimit: 100 * MiB }), level({ swapLimit: 500 * MiB, swapUsed: 450 * MiB })],
      total: 100,
      free: 50,
    },
    { limits: [level({ swapLimit: 950 * MiB })], total: 950, free: 900 },
    { limits: [level()], total: 1000, free: 900 },
  ])('has swap of $total, of it $free MiB free', ({ limits, total, free }) => {
    expect(withinLimits(machine, limits)).toMatchObject({ totalswap: total * MiB, freeswap: free * MiB })
  })

  test('keeps every figure within its total, whatever the groups say', () => {
    const bytes = fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), fc.constant(0))
    const limit = fc.oneof(bytes, fc.constant(NONE))
    const levels = fc.array(
      fc.record({
        limit,
        usage: bytes,
        used: bytes,
        swapLimit: limit,
        swapUsed: bytes,
        shared: bytes,
        kernelCache: bytes,
      }),
      { maxLength: 6 },
    )
    const machines = fc.tuple(bytes, bytes, bytes, bytes).map(([totalram, available, totalswap, freeswap]) => ({
      ...{ totalram, available: Math.min(available, totalram), totalswap, freeswap: Math.min(freeswap, totalswap) },
      ...{
        freeram: Math.floor(totalram / 3),
        bufferram: Math.floor(totalram / 5),
        sharedram: Math.floor(totalram / 7),
      },
    }))
    fc.assert(
      fc.property(machines, levels, (host, groups) => {
        const memory = withinLimits(host, groups)
        expect(memory.totalram).toBe(Math.min(host.totalram, ...groups.map((group) => group.limit)))
        expect(memory.totalswap).toBe(Math.min(host.totalswap, ...groups.map((group) => group.swapLimit)))
        expect(memory.freeram + memory.bufferram).toBeLessThanOrEqual(memory.totalram)
        expect(memory.sharedram).toBeLessThanOrEqual(memory.totalram)
        expect(memory.freeswap).toBeLessThanOrEqual(memory.totalswap)
        for (const figure of Object.values(memory)) expect(Number.isSafeInteger(figure) && figure >= 0).toBe(true)
      }),
    )
  })
})

describe('asLxcfs()', () => {
  const swapless = { totalswap: machine.totalswap, freeswap: machine.freeswap }

  test.each([
    {
      what: 'used page cache, as in /proc/meminfo',
      levels: [level({ limit: 100 * MiB, usage: 70 * MiB, used: 10 * MiB, shared: 5 * MiB, kernelCache: 9 * MiB })],
      shows: { totalram: 100 * MiB, freeram: 30 * MiB, sharedram: 5 * MiB, bufferram: 0, ...swapless },
    },
    {
      what: 'the limit of an outer group, and the usage of the inner one',
      levels: [level({ usage: 10 * MiB }), level({ limit: 50 * MiB, usage: 40 * MiB })],
      shows: { totalram: 50 * MiB, freeram: 40 * MiB, sharedram: 0, bufferram: 0, ...swapless },
    },
    {
      what: 'no limit',
      levels: [level({ usage: 10 * MiB })],
      shows: { totalram: 8000 * MiB, freeram: 7990 * MiB, sharedram: 0, bufferram: 0, ...swapless },
    },
    {
      what: 'more usage than the limit',
      levels: [level({ limit: 10 * MiB, usage: 11 * MiB })],
      shows: { totalram: 10 * MiB, freeram: 0, sharedram: 0, bufferram: 0, ...swapless },
    },
    { what: 'no controller, where lxcfs shows the machine', levels: [], shows: whole },
  ])('$what', ({ levels, shows }) => {
    expect(asLxcfs(machine, levels)).toEqual(shows)
  })
})

describe('uptime()', () => {
  test.each([
    { started: 5000, now: 5000, seconds: 0 },
    { started: 5000, now: 5000.001, seconds: 1 },
    { started: 5000, now: 6000, seconds: 1 },
    { started: 5000, now: 6000.5, seconds: 2 },
    { started: 5000, now: 4999, seconds: 0 },
    { started: 0, now: 1e15, seconds: 0x7fff_ffff },
  ])('is $seconds s at $now of what started at $started ms', ({ started, now, seconds }) => {
    expect(uptime(started, now)).toBe(seconds)
  })

  test('never goes back, over an hour of samples', () => {
    const started = 987_654_320
    let steps = 0
    let last = 0
    for (let now = started; now <= started + 3_600_000; now += 7.3) {
      const seconds = uptime(started, now)
      if (seconds !== last) steps += seconds === last + 1 ? 1 : Number.NaN
      last = seconds
    }
    expect([last, steps]).toEqual([3600, 3600])
  })
})
