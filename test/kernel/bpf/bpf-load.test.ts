import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BPF, LOAD } from '../../../src/abi/bpf.ts'
import {
  type Attr,
  attr,
  Caller,
  Group,
  insn,
  loading,
  MOV,
  RETURN,
  type Said,
  withoutCgroups,
} from '../../support/bpf-world.ts'
import { devicePrograms, Host } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'

const why = withoutCgroups()
/** What is too long is left to the kernel. Before Linux 6.4, that asks for a capability of the host before it looks. */
const ASKED_FIRST = 'EPERM'

/** LDX | MEM | W */
const LOAD_WORD = 0x61
const STORE_DOUBLE = 0x7b
const EXIT = insn(RETURN)
const program = (...instructions: readonly Buffer[]): Buffer => Buffer.concat(instructions)
const set = (dst: number, imm: number): Buffer => insn(MOV, { dst, imm })

/** Devices one after the other, as the runtimes write it: a log of some kilobytes. */
const rules = program(
  insn(LOAD_WORD, { dst: 2, src: 1, off: 0 }),
  insn(LOAD_WORD, { dst: 3, src: 1, off: 4 }),
  insn(LOAD_WORD, { dst: 4, src: 1, off: 8 }),
  ...[3, 5, 7, 8, 9].flatMap((minor) => [
    insn(0x55, { dst: 3, off: 3, imm: 1 }),
    insn(0x55, { dst: 4, off: 2, imm: minor }),
    set(0, 1),
    EXIT,
  ]),
  set(0, 0),
  EXIT,
)

const programs: Readonly<Record<string, Buffer>> = {
  'good rules': rules,
  'a constant of 64 bits, the stack, 32-bit jumps': program(
    insn(0x18, { dst: 2, imm: -1 }),
    insn(0),
    insn(STORE_DOUBLE, { dst: 10, src: 2, off: -8 }),
    insn(0x79, { dst: 0, src: 10, off: -8 }),
    insn(0x56, { dst: 0, off: 0, imm: 1 }),
    set(0, 1),
    EXIT,
  ),
  'no end': set(0, 1),
  'nothing returned': EXIT,
  'beyond the context': program(insn(LOAD_WORD, { dst: 0, src: 1, off: 12 }), EXIT),
  'beyond the stack': program(insn(0x79, { dst: 0, src: 10, off: -520 }), EXIT),
  'into the context': program(insn(0x63, { dst: 1, src: 1, off: 0 }), set(0, 1), EXIT),
  'an endless loop': program(set(0, 1), insn(0x05, { off: -1 }), EXIT),
  'a jump out of it': program(insn(0x05, { off: 100 }), EXIT),
  'half a constant': program(insn(0x18, { dst: 0 }), EXIT),
  'a reserved member': program(insn(MOV, { src: 1, imm: 1 }), EXIT),
  'a wrong register': program(insn(MOV, { dst: 11 }), EXIT),
  'unknown arithmetic': program(insn(0xf7, { dst: 0 }), EXIT),
  'what it returns is no constant': program(insn(LOAD_WORD, { dst: 0, src: 1, off: 0 }), EXIT),
  nothing: Buffer.alloc(0),
}

describe.skipIf(why)(
  withReason('BPF_PROG_LOAD in a container answers as to a process with just the two capabilities', why),
  () => {
    let host: Host
    let home: Group
    let contained: Caller
    let native: Caller
    beforeAll(async () => {
      host = await Host.start({ bpf: devicePrograms })
      home = new Group()
      contained = Caller.contained(host, home.path)
      native = Caller.native()
    })
    afterAll(async () => {
      await contained.close()
      await native.close()
      host.close()
      await home.remove()
    })

    /** Loads on both sides; a descriptor is closed again, and its number is not compared. */
    async function both(load: Attr): Promise<readonly [ours: Said, native: Said]> {
      const sides = [contained, native].map(async (caller) => {
        const said = await caller.bpf(BPF.PROG_LOAD, load)
        if (typeof said.result !== 'number') return said
        await caller.ask(`close ${said.result}`)
        return { ...said, result: 0 }
      })
      const [ours, theirs] = await Promise.all(sides)
      return [withoutPointers(ours!), withoutPointers(theirs!)]
    }

    test.each(Object.keys(programs))('%s: errno, log and its size, at each level and room', async (name) => {
      const instructions = programs[name]!
      for (const level of [0, 1, 2, 3, 4, 5, 6, 9, 16]) {
        const words = { [LOAD.logLevel]: level }
        const at = (room: number) =>
          loading(instructions, { words: { ...words, [LOAD.logSize]: room }, log: `+${room}` })
        const [large, nativeLarge] = await both(at(262144))
        expect(comparable(large), `level ${level}`).toEqual(comparable(nativeLarge))
        const exact = Buffer.from(nativeLarge.attr, 'hex').readUInt32LE(LOAD.logTrueSize)
        const near = (level & STATS) === 0 ? [exact - 1, exact, exact + 1] : []
        for (const room of [1, 2, 127, ...near].filter((size) => size > 0)) {
          const [ours, theirs] = await both(at(room))
          expect(comparable(ours), `level ${level}, room for ${room} of ${exact}`).toEqual(comparable(theirs))
        }
        const [without, nativeWithout] = await both(loading(instructions, { words }))
        expect(comparable(without), `level ${level}, without room`).toEqual(comparable(nativeWithout))
      }
      // Something must have been logged, or nothing was compared.
      const { buffers } = await native.bpf(
        BPF.PROG_LOAD,
        loading(instructions, { words: { 24: 1, 28: 4096 }, log: '+4096' }),
      )
      if (name !== 'nothing') expect(buffers[2]!.length).toBeGreaterThan(20)
    })

    test('a log of megabytes in a huge room', async ({ skip }) => {
      // Branches that the verifier cannot join: each doubles what it has to walk through.
      const branch = (bit: number): Buffer[] => [
        insn(LOAD_WORD, { dst: 2, src: 1, off: 4 }),
        insn(0x55, { dst: 2, off: 1, imm: 7 }),
        insn(0x07, { dst: 0, imm: 1 << bit }),
      ]
      const many = program(
        set(0, 0),
        ...Array.from({ length: 12 }, (_, bit) => branch(bit)).flat(),
        insn(0x57, { dst: 0, imm: 1 }),
        EXIT,
      )
      const size = 64 * 1024 * 1024
      const [ours, theirs] = await both(loading(many, { words: { 24: 2, 28: size }, log: `+${size}` }))
      expect(theirs.result).toBe(0)
      // Older verifiers join the branches after all.
      skip(theirs.buffers[2]!.length / 2 < 1024 * 1024, 'the verifier of this kernel writes no such log')
      expect(ours.result).toBe(theirs.result)
      expect(ours.buffers[2] === theirs.buffers[2]).toBe(true)
    })

    test.each<{ what: string; load: Attr }>([
      { what: 'room without memory', load: loading(rules, { words: { 24: 1, 28: 100 } }) },
      { what: 'memory without room', load: loading(rules, { words: { 24: 1 }, log: '+10' }) },
      { what: 'memory without a level', load: loading(rules, { words: { 28: 10 }, log: '+10' }) },
      { what: 'more room than there can be', load: loading(rules, { words: { 24: 1, 28: 0x4000_0000 }, log: '+10' }) },
      { what: 'memory that is not there', load: loading(rules, { words: { 24: 1, 28: 100 }, log: '!' }) },
      { what: 'an unreadable program', load: attr(144, { 0: 15, 4: 2 }, ['8:!', '16:47504c00']) },
      {
        what: 'a program that ends with the memory',
        load: attr(144, { 0: 15, 4: 2 }, [`8:|${rules.subarray(0, 16).toString('hex')}`, '16:47504c00']),
      },
      {
        what: 'a program that is cut by the end of the memory',
        load: attr(144, { 0: 15, 4: 3 }, [`8:|${rules.subarray(0, 16).toString('hex')}`, '16:47504c00']),
      },
      {
        what: 'no licence',
        load: attr(144, { 0: 15, 4: 2 }, [`8:${programs['no end']!.toString('hex')}${EXIT.toString('hex')}`]),
      },
      {
        what: 'a licence that ends with the memory',
        load: attr(144, { 0: 15, 4: 2 }, [`8:${'b70000000100000095000000'}00000000`, '16:|47504c00']),
      },
      {
        what: 'a licence without an end at the end of the memory',
        load: attr(144, { 0: 15, 4: 2 }, [`8:${'b70000000100000095000000'}00000000`, '16:|47504c']),
      },
      {
        what: 'a licence of 300 bytes',
        load: attr(144, { 0: 15, 4: 2 }, [`8:${'b70000000100000095000000'}00000000`, `16:${'41'.repeat(300)}`]),
      },
      { what: 'a name with a slash', load: loading(rules, { words: { 48: 0x2f61 } }) },
      {
        what: 'a name without an end',
        load: loading(rules, { words: { 48: 0x61616161, 52: 0x61616161, 56: 0x61616161, 60: 0x61616161 } }),
      },
      { what: 'a good name', load: loading(rules, { words: { 48: 0x612e5f61 } }) },
      { what: 'another expected attach type', load: loading(rules, { words: { 68: 6 } }) },
      { what: 'an impossible attach type', load: loading(rules, { words: { 68: 9999 } }) },
      { what: 'a version of the kernel', load: loading(rules, { words: { 40: 77 } }) },
      { what: 'strict alignment', load: loading(rules, { words: { 44: 1 } }) },
      { what: 'any alignment', load: loading(rules, { words: { 44: 2 } }) },
      { what: 'no instructions', load: loading(rules, { words: { 4: 0 } }) },
      { what: 'the shortest argument', load: loading(rules, { size: 48 }) },
      {
        what: 'an argument without the size of the log',
        load: loading(rules, { size: 120, words: { 24: 1, 28: 4096 }, log: '+4096' }),
      },
      { what: 'an argument of a page', load: loading(rules, { size: 4096 }) },
      { what: 'an argument beyond a page', load: loading(rules, { size: 4097 }) },
      { what: 'an argument too short for the program', load: attr(4, { 0: 15 }) },
    ])('$what: the same errno', async ({ load }) => {
      const [ours, theirs] = await both(load)
      const isLeft = theirs.result === 'E2BIG' && ours.result === ASKED_FIRST
      expect(comparable(isLeft ? { ...ours, result: theirs.result } : ours)).toEqual(comparable(theirs))
    })

    test('a byte that is not zero, at every place beyond the members that are known', async () => {
      const step = Math.ceil(SLOWNESS)
      const results: Record<string, number> = {}
      const differ: number[] = []
      await Promise.all(
        Array.from({ length: (4096 - 168) / step }, (_, index) => 168 + step * index).map(async (place) => {
          const load = loading(rules, { size: 4096 })
          load.bytes[place] = 1
          const [ours, theirs] = await both(load)
          results[theirs.result] = (results[theirs.result] ?? 0) + 1
          if (ours.result !== theirs.result && ours.result !== ASKED_FIRST) differ.push(place)
        }),
      )
      expect(differ).toEqual([])
      // EINVAL where the kernel has a member by now that these sources do not know.
      expect(['E2BIG', 'EINVAL']).toEqual(expect.arrayContaining(Object.keys(results)))
      expect(results.E2BIG).toBeGreaterThan(3000 / step)
    })

    test('a member that would be looked up in intercede', async () => {
      const members = [64, 72, 76, 80, 88, 92, 96, 104, 108, 112, 116, 120, 128, 136, 144, 148, 152, 160, 164]
      for (const place of members) {
        const { result } = await contained.bpf(BPF.PROG_LOAD, loading(rules, { size: 168, words: { [place]: 1 } }))
        expect(result, `member ${place}`).toBe('EINVAL')
      }
    })
  },
)

/** BPF_LOG_STATS: how long it took, in microseconds, of which there may be one digit more or less. */
const STATS = 4
/** The last bytes of such a log, after the time. */
const AFTER_TIME = 60

/** What can be compared of an answer: of a log that tells the time, all that does not depend on it. */
function comparable(said: Said): Said {
  const attr = Buffer.from(said.attr, 'hex')
  const [instructions, licence, log] = said.buffers
  const level = attr.length >= LOAD.logLevel + 4 ? attr.readUInt32LE(LOAD.logLevel) : 0
  if (level === 0) return said
  const tellsSize = attr.length >= LOAD.logTrueSize + 4 && attr.readUInt32LE(LOAD.logTrueSize) > 0
  // Before Linux 6.4, what was written first and then dropped lies behind the end.
  if (!tellsSize && said.result === 0 && log !== undefined)
    return { ...said, buffers: [instructions!, licence!, endedLog(log)] }
  if ((level & STATS) === 0) return said
  attr.writeUInt32LE(attr.readUInt32LE(LOAD.logTrueSize) > 0 ? 1 : 0, LOAD.logTrueSize)
  if (log === undefined) return { ...said, attr: attr.toString('hex') }
  // Behind its end lies what was there before it: the longer the time, the less of that.
  const timeless = said.result === 'ENOSPC' ? textOf(log).slice(-AFTER_TIME) : endedLog(log)
  return { ...said, attr: attr.toString('hex'), buffers: [instructions!, licence!, timeless] }
}

const textOf = (log: string): string => Buffer.from(log, 'hex').toString('latin1')

/** A log up to its end, without the time. */
const endedLog = (log: string): string =>
  textOf(log)
    .split('\0')[0]!
    .replace(/time \d+ usec/, 'time')

/** Where its memory lies differs from caller to caller. */
function withoutPointers(said: Said): Said {
  const attr = Buffer.from(said.attr, 'hex')
  for (const at of [LOAD.instructions, LOAD.licence, LOAD.log]) if (attr.length >= at + 8) attr.fill(0, at, at + 8)
  return { ...said, attr: attr.toString('hex') }
}
