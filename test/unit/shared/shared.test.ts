import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { escaped } from '../../../src/calls/escape.ts'
import { Locks } from '../../../src/shared/lock.ts'
import { oneLine, shellWord } from '../../../src/shared/texts.ts'
import { load64, low32, OneShot, setAndWake, store64, struct, waitWhile } from '../../../src/shared/words.ts'

const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count))

test('struct() lays members out in their order, without holes', () => {
  expect(struct({ state: 1, key: 2, rest: 5 })).toEqual([{ state: 0, key: 1, rest: 3 }, 8])
  expect(struct({})).toEqual([{}, 0])
})

test.each([0n, 1n, 0xffff_ffffn, 0x1_0000_0000n, 0xfedc_ba98_7654_3210n, 2n ** 64n - 1n])(
  'store64() and load64() keep %d',
  (value) => {
    const all = words(4).fill(7)
    store64(all, 1, value)
    expect(load64(all, 1)).toBe(value)
    expect([all[0], all[3]]).toEqual([7, 7])
    expect(all[1]).toBe(low32(value))
  },
)

test.each(["it's; echo no", "'; echo no; '", "\\'; echo no; \\'", '$(echo no)`echo no`', '"', '', '~ *'])(
  'shellWord(%j) stays one word for a shell, also as it is printed',
  (word) => {
    const read = (text: string): string => execFileSync('sh', ['-c', `printf '<%s>' ${text}`], { encoding: 'latin1' })
    expect(read(shellWord(word))).toBe(`<${word}>`)
    expect(read(escaped(shellWord(word)))).toBe(`<${escaped(word)}>`)
  },
)

test('waitWhile() returns at once when the word has another value, and false when the time is over', () => {
  const all = words(1)
  expect(waitWhile(all, 0, 1)).toBe(true)
  expect(waitWhile(all, 0, 0, 1)).toBe(false)
  setAndWake(all, 0, 5)
  expect([all[0], waitWhile(all, 0, 0)]).toEqual([5, true])
})

test('OneShot gives an answer, and undefined where none comes in time', () => {
  const asked = new OneShot()
  expect(asked.wait(1)).toBeUndefined()
  new OneShot(asked.buffer).set(-1)
  expect(asked.wait()).toBe(-1)
  expect(() => asked.set(0)).toThrow(new RangeError('Cannot answer a thread: 0 is no answer'))
  expect(() => asked.set(2 ** 32)).toThrow(RangeError)
})

test('Locks.take() gives up when its time is over and holds nothing then; each index is a lock of its own', () => {
  const locks = new Locks(words(2))
  expect(locks.tryTake(0)).toBe(true)
  expect([locks.tryTake(0), locks.take(0, 1), locks.take(0, 0)]).toEqual([false, false, false])
  expect(locks.take(1, 0)).toBe(true)
  locks.release(0)
  expect(locks.tryTake(0)).toBe(true)
})

test('Locks.during() lets go also when the action throws', () => {
  const locks = new Locks(words(1))
  const fails = (): never => {
    expect(locks.tryTake(0)).toBe(false)
    throw new Error('of a test')
  }
  expect(() => locks.during(0, fails)).toThrow('of a test')
  expect(locks.during(0, () => 3)).toBe(3)
  expect(locks.tryTake(0)).toBe(true)
})

test('oneLine() leaves what a reader sees, and shows what moves a cursor, ends a line or turns its direction', () => {
  expect(oneLine(' Käse “ü” 例 😀\n')).toBe('Käse “ü” 例 😀')
  expect(oneLine('a\nb\r\u001b[31m\u007f\u009b\u2028\u202e\u{e0041}')).toBe(
    'a\\nb\\r\\u001b[31m\\u007f\\u009b\\u2028\\u202e\\udb40\\udc41',
  )
})
