import { expect, test } from 'vitest'
import type { Dev } from '../../src/abi/brand.ts'
import { makedev } from '../../src/abi/dev.ts'
import type { DeviceRules } from '../../src/engine/device-rules.ts'
import { decodeRules, encodeRules, RULES_WORDS, RulesCache } from '../../src/engine/rules-cache.ts'

const allowed = { mknod: true, open: true }
const refused = { mknod: false, open: false }

/** As a thread does it. */
function askIn(cache: RulesCache, container: number, dev: Dev, find: () => DeviceRules | undefined) {
  const known = cache.get(container, dev)
  if (known !== 0) return decodeRules(known)
  const word = encodeRules(find())
  cache.set(container, dev, word)
  return decodeRules(word)
}

test('an answer holds for ten seconds, for its container and device', () => {
  let now = 0
  let asked = 0
  const cache = new RulesCache(new Int32Array(2 * RULES_WORDS), () => now)
  const ask = (container: number, minor: number, rules = allowed) =>
    askIn(cache, container, makedev(1, minor), () => {
      asked++
      return rules
    })
  expect(ask(0, 3)).toEqual(allowed)
  expect(ask(0, 3, refused)).toEqual(allowed)
  expect(asked).toBe(1)
  expect(ask(0, 5, refused)).toEqual(refused)
  expect(ask(1, 3, refused)).toEqual(refused)
  now = 10
  expect(ask(0, 3, refused)).toEqual(refused)
  cache.forget(0)
  expect(ask(0, 3)).toEqual(allowed)
  expect(ask(1, 3)).toEqual(allowed)
})

test('that nobody knows holds for a second only', () => {
  let now = 0
  const cache = new RulesCache(new Int32Array(RULES_WORDS), () => now)
  const ask = (rules: typeof allowed | undefined) => askIn(cache, 0, makedev(1, 3), () => rules)
  expect(ask(undefined)).toBeUndefined()
  expect(ask(allowed)).toBeUndefined()
  now = 1
  expect(ask(allowed)).toEqual(allowed)
  now = 2
  expect(ask(undefined)).toEqual(allowed)
})

test('two devices that share a place do not get each other for an answer', () => {
  const cache = new RulesCache(new Int32Array(RULES_WORDS), () => 0)
  expect(askIn(cache, 0, makedev(1, 3), () => allowed)).toEqual(allowed)
  expect(askIn(cache, 0, makedev(1, 3 + 16), () => refused)).toEqual(refused)
  expect(askIn(cache, 0, makedev(1, 3), () => refused)).toEqual(refused)
})
