import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeSysinfo,
  encodeSysinfo32,
  encodeSysinfo64,
  SYSINFO_SIZE,
  type SystemInfo,
} from '../../../src/abi/system.ts'

const info: SystemInfo = {
  uptime: 3,
  loads: [65536, 32768, 1],
  totalram: 128_974_848,
  freeram: 100_000_000,
  sharedram: 4096,
  bufferram: 8192,
  totalswap: 1 << 30,
  freeswap: 1 << 29,
  procs: 7,
}
const GiB = 2 ** 30

/** What a 32-bit program reads, its sizes in bytes. */
function decode32(view: DataView) {
  const word = (index: number): number => view.getUint32(4 * index, true)
  const unit = word(13)
  const [totalram, freeram, sharedram, bufferram, totalswap, freeswap] = [4, 5, 6, 7, 8, 9].map((at) => unit * word(at))
  return {
    unit,
    uptime: word(0),
    loads: [word(1), word(2), word(3)],
    ...{ totalram, freeram, sharedram, bufferram, totalswap, freeswap },
    procs: view.getUint16(40, true),
  }
}

/** A view of just the struct within memory that must stay as it is. */
function room(size: number): { readonly view: DataView; readonly intact: () => boolean } {
  const bytes = new Uint8Array(256).fill(0xa5)
  const outside = (): readonly number[] => [...bytes.subarray(0, 64), ...bytes.subarray(64 + size)]
  return { view: new DataView(bytes.buffer, 64, size), intact: () => outside().every((byte) => byte === 0xa5) }
}

test('encodeSysinfo64() and decodeSysinfo() are inverse, and fill exactly 112 bytes', () => {
  const { view, intact } = room(SYSINFO_SIZE[64])
  encodeSysinfo64(view, info)
  expect(decodeSysinfo(view)).toEqual(info)
  expect(intact()).toBe(true)
})

test('decodeSysinfo() counts in the unit of the kernel', () => {
  const view = new DataView(new ArrayBuffer(SYSINFO_SIZE[64]))
  encodeSysinfo64(view, info)
  view.setUint32(104, 4096, true)
  expect(decodeSysinfo(view).totalram).toBe(4096 * info.totalram)
})

describe('encodeSysinfo32()', () => {
  test.each([
    { total: 123 * 2 ** 20, unit: 1 },
    { total: 4 * GiB - 1, unit: 1 },
    { total: 4 * GiB, unit: 4096 },
    { total: 16 * 1024 * GiB - 4096, unit: 4096 },
    { total: 16 * 1024 * GiB, unit: 8192 },
    { total: 4096 * 1024 * GiB, unit: 2 ** 21 },
  ])('says $total bytes in units of $unit', ({ total, unit }) => {
    const { view, intact } = room(SYSINFO_SIZE[32])
    encodeSysinfo32(view, { ...info, totalram: total })
    expect(decode32(view)).toMatchObject({ unit, totalram: Math.floor(total / unit) * unit, procs: 7, uptime: 3 })
    expect(intact()).toBe(true)
  })

  test('takes the larger unit if only the swap does not fit', () => {
    const { view } = room(SYSINFO_SIZE[32])
    encodeSysinfo32(view, { ...info, totalswap: 8 * GiB })
    expect(decode32(view)).toMatchObject({ unit: 4096, totalram: info.totalram, totalswap: 8 * GiB })
  })
})

const size = fc.nat({ max: Number.MAX_SAFE_INTEGER })
/** At most so much: a share of it in floating point may come out larger than all of it. */
const within = (total: number): fc.Arbitrary<number> => fc.nat({ max: total })
/** Free memory and buffers are parts of the total that do not overlap. */
const ram = size
  .chain((totalram) => fc.tuple(fc.constant(totalram), within(totalram)))
  .chain(([totalram, freeram]) => within(totalram - freeram).map((bufferram) => ({ totalram, freeram, bufferram })))
const swap = size.chain((totalswap) => within(totalswap).map((freeswap) => ({ totalswap, freeswap })))

test('no figure wraps, whatever it is, and what is free stays within the total', () => {
  fc.assert(
    fc.property(ram, swap, size, (memory, disk, procs) => {
      const given = { ...info, ...memory, ...disk, sharedram: 0, procs }
      const { view } = room(SYSINFO_SIZE[32])
      encodeSysinfo32(view, given)
      const got = decode32(view)
      for (const name of ['totalram', 'freeram', 'bufferram', 'totalswap', 'freeswap'] as const) {
        expect(got[name]).toBeLessThanOrEqual(given[name])
        expect(got[name]).toBeGreaterThan(given[name] - got.unit)
      }
      expect(got.freeram! + got.bufferram!).toBeLessThanOrEqual(got.totalram!)
      expect(got.freeswap!).toBeLessThanOrEqual(got.totalswap!)
      expect(got.procs).toBe(Math.min(procs, 65535))
    }),
  )
})
