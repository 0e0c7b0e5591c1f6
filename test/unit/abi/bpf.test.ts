import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ATTR_MAX,
  attrView,
  BPF,
  barOpening,
  forOwner,
  PROG_INFO_SIZE,
  refusedInstruction,
  strayByte,
  verifierSteps,
} from '../../../src/abi/bpf.ts'
import { makedev } from '../../../src/abi/stat.ts'

const instruction = (code: number, source = 0): Uint8Array => Uint8Array.of(code, source << 4, 0, 0, 0, 0, 0, 0)

describe('refusedInstruction()', () => {
  test.each([
    { what: 'r0 = 1', code: 0xb7 },
    { what: '32-bit arithmetic', code: 0xbc, source: 1 },
    { what: 'an unconditional jump', code: 0x05 },
    { what: 'a long jump', code: 0x06 },
    { what: 'a comparison', code: 0x1d, source: 2 },
    { what: 'the end', code: 0x95 },
    { what: 'a load', code: 0x61, source: 1 },
    { what: 'a load with sign', code: 0x81, source: 1 },
    { what: 'a constant on the stack', code: 0x7a },
    { what: 'a register on the stack', code: 0x7b, source: 3 },
    { what: 'a constant of 64 bits', code: 0x18 },
    { what: 'its second slot', code: 0x00 },
  ])('$what is harmless', ({ code, source = 0 }) => {
    expect(refusedInstruction(instruction(code, source))).toBe(-1)
  })

  test.each([
    { what: 'a call of a helper', code: 0x85 },
    { what: 'a call of a function of its own', code: 0x85, source: 1 },
    { what: 'a call of a kernel function', code: 0x85, source: 2 },
    { what: 'a call by a register', code: 0x8d },
    { what: 'a 32-bit call', code: 0x86 },
    { what: 'a jump that counts', code: 0xe5 },
    { what: 'a map by its descriptor', code: 0x18, source: 1 },
    { what: 'the value of a map', code: 0x18, source: 2 },
    { what: 'a variable of the kernel', code: 0x18, source: 3 },
    { what: 'a function', code: 0x18, source: 4 },
    { what: 'a map by its place in fd_array', code: 0x18, source: 5 },
    { what: 'the value of such a map', code: 0x18, source: 6 },
    { what: 'a packet, absolute', code: 0x20 },
    { what: 'a packet, indirect', code: 0x40 },
    { what: 'an atomic access', code: 0xdb, source: 1 },
    { what: 'an atomic access of 32 bits', code: 0xc3, source: 1 },
    { what: 'a probing load', code: 0x21 },
    { what: 'a second slot that names something', code: 0x00, source: 1 },
  ])('$what is none', ({ code, source = 0 }) => {
    const program = Buffer.concat([instruction(0xb7), instruction(code, source), instruction(0x95)])
    expect(refusedInstruction(program)).toBe(1)
  })

  test('whatever is left of a random program calls nothing and names nothing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 80 }), (bytes) => {
        const whole = bytes.subarray(0, bytes.length - (bytes.length % 8))
        if (refusedInstruction(whole) >= 0) return
        for (let at = 0; at < whole.length; at += 8) {
          const [code, source] = [whole[at]!, whole[at + 1]! >> 4]
          expect([5, 6].includes(code & 7) && (code & 0xf0) === 0x80).toBe(false)
          expect((code & 7) === 0 && source !== 0).toBe(false)
        }
      }),
    )
  })

  test('the programs of our own pass', () => {
    expect(refusedInstruction(barOpening(makedev(5, 1)))).toBe(-1)
  })
})

describe('verifierSteps()', () => {
  const [MOV, EXIT, JNE, JA, LONG] = [0xb7, 0x95, 0x55, 0x05, 0x06]
  /** Instructions by code and offset; that of a long jump is its immediate value. */
  const program = (...codes: readonly (readonly [code: number, offset?: number])[]): Uint8Array =>
    Buffer.concat(
      codes.map(([code, offset = 0]) => {
        const bytes = Buffer.from(instruction(code))
        if (code === LONG) bytes.writeInt32LE(offset, 4)
        else bytes.writeInt16LE(offset, 2)
        return bytes
      }),
    )

  test.each([
    { what: 'two instructions in a row', codes: [[MOV], [EXIT]], steps: 2 },
    { what: 'one branch: both of its paths', codes: [[JNE, 1], [MOV], [EXIT]], steps: 1 + 2 + 1 },
    { what: 'two branches', codes: [[JNE, 0], [JNE, 1], [MOV], [EXIT]], steps: 1 + 4 + 4 },
    { what: 'a jump: what it jumps over is not walked', codes: [[JA, 1], [MOV], [EXIT]], steps: 2 },
    { what: 'a long jump', codes: [[LONG, 1], [MOV], [EXIT]], steps: 2 },
    { what: 'no end', codes: [[MOV]], steps: Infinity },
    { what: 'a jump out of the program', codes: [[JNE, 5], [EXIT]], steps: Infinity },
    { what: 'a jump to before the program', codes: [[JNE, -9], [EXIT]], steps: Infinity },
    { what: 'a loop', codes: [[MOV], [JNE, -2], [EXIT]], steps: Infinity },
    { what: 'a loop of one instruction', codes: [[JA, -1]], steps: Infinity },
    { what: 'an empty program', codes: [], steps: 0 },
  ] as const)('$what', ({ codes, steps }) => {
    expect(verifierSteps(program(...codes))).toBe(steps)
  })

  test('paths double with each branch', () => {
    const branches = Array.from({ length: 40 }, () => [JNE, 0] as const)
    expect(verifierSteps(program(...branches, [EXIT]))).toBeGreaterThan(2 ** 40)
  })
})

describe('strayByte()', () => {
  const attr = (length: number, ...places: readonly number[]): Uint8Array => {
    const bytes = new Uint8Array(length)
    for (const at of places) bytes[at] = 1
    return bytes
  }
  test.each([
    { what: 'nothing', command: BPF.PROG_LOAD, bytes: attr(168), stray: undefined },
    { what: 'what is understood', command: BPF.PROG_LOAD, bytes: attr(168, 0, 48, 63, 68, 140), stray: undefined },
    { what: 'the BTF', command: BPF.PROG_LOAD, bytes: attr(168, 72), stray: { at: 72, known: true } },
    { what: 'the token', command: BPF.PROG_LOAD, bytes: attr(168, 0, 144), stray: { at: 144, known: true } },
    { what: 'what nobody knows yet', command: BPF.PROG_LOAD, bytes: attr(200, 168), stray: { at: 168, known: false } },
    { what: 'a place among programs', command: BPF.PROG_ATTACH, bytes: attr(32, 20), stray: { at: 20, known: true } },
    { what: 'beyond it', command: BPF.PROG_ATTACH, bytes: attr(40, 33), stray: { at: 33, known: false } },
    { what: 'flags to detach', command: BPF.PROG_DETACH, bytes: attr(32, 12), stray: { at: 12, known: true } },
    { what: 'a hole', command: BPF.PROG_QUERY, bytes: attr(64, 28), stray: { at: 28, known: true } },
    { what: 'a cookie', command: BPF.LINK_CREATE, bytes: attr(32, 24), stray: { at: 24, known: true } },
  ])('$what', ({ command, bytes, stray }) => {
    expect(strayByte(command, bytes)).toEqual(stray)
  })
})

test('attrView() reads zeros beyond the size that the caller gave', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: ATTR_MAX }), (bytes) => {
      const view = attrView(bytes)
      expect(view.byteLength).toBeGreaterThanOrEqual(168)
      expect(new Uint8Array(view.buffer, 0, bytes.length)).toEqual(bytes)
      expect(new Uint8Array(view.buffer, bytes.length).every((byte) => byte === 0)).toBe(true)
    }),
  )
})

test('forOwner() keeps the number and the time, and tells no length of code', () => {
  const info = new Uint8Array(PROG_INFO_SIZE).fill(0xff)
  const told = forOwner(info)
  expect(told.subarray(0, 16)).toEqual(info.subarray(0, 16))
  expect(told.subarray(40, 48)).toEqual(info.subarray(40, 48))
  expect(told.subarray(16, 24).every((byte) => byte === 0)).toBe(true)
  expect(info[16]).toBe(0xff)
  // An older kernel has less of it.
  expect(forOwner(info.subarray(0, 80))).toHaveLength(80)
})
