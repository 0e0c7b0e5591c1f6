import { expect, test } from 'vitest'
import { makedev } from '../../src/abi/dev.ts'
import { encodeRules, RULES_WORDS, RulesCache } from '../../src/engine/rules-cache.ts'

const allowed = { mknod: true, open: true }
const refused = { mknod: false, open: false }

test('an answer holds for ten seconds, for its container and device', () => {
  let now = 0
  let asked = 0
  const cache = new RulesCache(new Int32Array(2 * RULES_WORDS), () => now)
  const ask = (container: number, minor: number, rules = allowed) =>
    cache.get(container, makedev(1, minor), () => {
      asked++
      return encodeRules(rules)
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
  const ask = (rules: typeof allowed | undefined) => cache.get(0, makedev(1, 3), () => encodeRules(rules))
  expect(ask(undefined)).toBeUndefined()
  expect(ask(allowed)).toBeUndefined()
  now = 1
  expect(ask(allowed)).toEqual(allowed)
  now = 2
  expect(ask(undefined)).toEqual(allowed)
})

test('two devices that share a place do not get each other for an answer', () => {
  const cache = new RulesCache(new Int32Array(RULES_WORDS), () => 0)
  expect(cache.get(0, makedev(1, 3), () => encodeRules(allowed))).toEqual(allowed)
  expect(cache.get(0, makedev(1, 3 + 16), () => encodeRules(refused))).toEqual(refused)
  expect(cache.get(0, makedev(1, 3), () => encodeRules(refused))).toEqual(refused)
})
