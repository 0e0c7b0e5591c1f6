import { hash } from 'node:crypto'
import { expect, test } from 'vitest'
import type { DeviceRules } from '../../../../src/calls/caller.ts'
import {
  DeviceRulesCache,
  decodeRules,
  encodeRules,
  RULES_WORDS,
} from '../../../../src/engine/facts/device-rules-cache.ts'

const allowed = { mknod: true, open: true, full: true }
const refused = { mknod: false, open: false, full: false }
const keyOf = (of: number | string): Buffer => hash('sha256', `${of}`, 'buffer')

/** As a thread does it. */
function askIn(cache: DeviceRulesCache, container: number, of: number | string, find: () => DeviceRules | undefined) {
  const known = cache.get(container, keyOf(of))
  if (known !== 0) return decodeRules(known)
  const word = encodeRules(find())
  cache.set(container, keyOf(of), word)
  return decodeRules(word)
}

test('an answer holds for ten seconds, for its container and key', () => {
  let now = 0
  let asked = 0
  const cache = new DeviceRulesCache(new Int32Array(2 * RULES_WORDS), () => now)
  const ask = (container: number, of: number, rules = allowed) =>
    askIn(cache, container, of, () => {
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

test('the answer that nobody knows holds for a second only', () => {
  let now = 0
  const cache = new DeviceRulesCache(new Int32Array(RULES_WORDS), () => now)
  const ask = (rules: typeof allowed | undefined) => askIn(cache, 0, 3, () => rules)
  expect(ask(undefined)).toBeUndefined()
  expect(ask(allowed)).toBeUndefined()
  now = 1
  expect(ask(allowed)).toEqual(allowed)
  now = 2
  expect(ask(undefined)).toEqual(allowed)
})

test('64 questions have a place each; one more takes that of one, of any when they are old', () => {
  let now = 0
  const cache = new DeviceRulesCache(new Int32Array(2 * RULES_WORDS), () => now)
  const questions = Array.from({ length: 64 }, (_, index) => index)
  const rulesOf = (of: number): DeviceRules => (of % 3 === 0 ? refused : allowed)
  const ask = (of: number): DeviceRules | undefined => askIn(cache, 0, of, () => rulesOf(of))
  for (const of of questions) expect(ask(of)).toEqual(rulesOf(of))
  for (const of of questions) expect(cache.get(0, keyOf(of))).toBe(encodeRules(rulesOf(of)))
  expect(ask(64)).toEqual(rulesOf(64))
  expect(questions.filter((of) => cache.get(0, keyOf(of)) === 0)).toHaveLength(1)
  now = 10
  for (const of of questions) expect(ask(of)).toEqual(rulesOf(of))
  expect(cache.get(1, keyOf(3))).toBe(0)
})

test('a place that another thread is writing is neither read nor written', () => {
  const words = new Int32Array(RULES_WORDS)
  const cache = new DeviceRulesCache(words, () => 0)
  const key = keyOf('one')
  cache.set(0, key, encodeRules(allowed))
  const at = words.findIndex((word) => word !== 0)
  const written = words.slice()
  // As `set` has taken it.
  words[at] = 2
  expect(cache.get(0, key)).toBe(0)
  words.fill(2)
  cache.set(0, key, encodeRules(refused))
  expect(words).toEqual(new Int32Array(RULES_WORDS).fill(2))
  words.set(written)
  expect(decodeRules(cache.get(0, key))).toEqual(allowed)
})
