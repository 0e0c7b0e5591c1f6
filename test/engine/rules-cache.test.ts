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

test('devices whose numbers are alike do not get each other for an answer, and take no place of each other', () => {
  let now = 0
  const cache = new RulesCache(new Int32Array(2 * RULES_WORDS), () => now)
  const minors = Array.from({ length: 64 }, (_, index) => 3 + 64 * index)
  const rulesOf = (minor: number): DeviceRules => (minor % 3 === 0 ? refused : allowed)
  const ask = (minor: number): DeviceRules | undefined => askIn(cache, 0, makedev(1, minor), () => rulesOf(minor))
  for (const minor of minors) expect(ask(minor)).toEqual(rulesOf(minor))
  for (const minor of minors) expect(cache.get(0, makedev(1, minor))).toBe(encodeRules(rulesOf(minor)))
  // One more takes the place of one; when they are old, of any.
  expect(ask(1)).toEqual(rulesOf(1))
  expect(minors.filter((minor) => cache.get(0, makedev(1, minor)) === 0)).toHaveLength(1)
  now = 10
  for (const minor of minors) expect(ask(minor)).toEqual(rulesOf(minor))
  expect(cache.get(1, makedev(1, 3))).toBe(0)
})
