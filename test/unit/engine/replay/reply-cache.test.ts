import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { REPLY_CACHE_WORDS, ReplyCache } from '../../../../src/engine/replay/reply-cache.ts'

const CONTAINER = 1
const TID = 42 as Tid
const [KEY, OTHER] = [0x1234_5678_9abc_def0n, 7n]
const RESULT = 0xfedc_ba98_7654_3210n

const noWait = (): never => {
  throw new Error('It waits')
}

const table = (): ReplyCache => new ReplyCache(new Int32Array(new SharedArrayBuffer(4 * 2 * REPLY_CACHE_WORDS)))

/** A call that has acted, and whose answer did not arrive. */
function leave(acts: ReplyCache, key = KEY, result = RESULT): void {
  acts.end(CONTAINER, acts.begin(CONTAINER, TID, key)!, key, false, result)
}

test('ReplyCache: a call that comes again gets what was done, once', () => {
  const acts = table()
  leave(acts)
  const again = acts.begin(CONTAINER, TID, KEY)!
  expect(acts.take(CONTAINER, again, KEY, noWait)).toBe(RESULT)
  expect(acts.take(CONTAINER, again, KEY, noWait)).toBeUndefined()
})

test('ReplyCache: a call that comes again gets the newest result, if it was done more than once', () => {
  const acts = table()
  leave(acts)
  leave(acts, KEY, 5n)
  expect(acts.take(CONTAINER, acts.begin(CONTAINER, TID, KEY)!, KEY, noWait)).toBe(5n)
})

test('ReplyCache: a call gets no result of another call, of another container, or of a later one', () => {
  const acts = table()
  const first = acts.begin(CONTAINER, TID, KEY)!
  leave(acts)
  expect(acts.take(CONTAINER, first, KEY, noWait)).toBeUndefined()
  expect(acts.take(CONTAINER, acts.begin(CONTAINER, TID, OTHER)!, OTHER, noWait)).toBeUndefined()
  expect(acts.take(0, acts.begin(0, TID, KEY)!, KEY, noWait)).toBeUndefined()
})

test('an answer that arrives ends what was left for such a call; one that does not, and did nothing, leaves it', () => {
  const acts = table()
  leave(acts)
  acts.end(CONTAINER, acts.begin(CONTAINER, TID, KEY)!, KEY, false, undefined)
  const third = acts.begin(CONTAINER, TID, KEY)!
  acts.end(CONTAINER, third, KEY, true, undefined)
  expect(acts.take(CONTAINER, acts.begin(CONTAINER, TID, KEY)!, KEY, noWait)).toBeUndefined()
})

test('a container has sixteen places; the oldest that nobody came back for makes room', () => {
  const acts = table()
  leave(acts, OTHER)
  for (let key = 100n; key < 115n; key++) leave(acts, key)
  expect(acts.begin(CONTAINER, TID, KEY)).toBeDefined()
  expect(acts.take(CONTAINER, { at: -1, ticket: 1000 }, OTHER, noWait)).toBeUndefined()
  expect(acts.take(CONTAINER, { at: -1, ticket: 1000 }, 100n, noWait)).toBe(RESULT)
})

test('calls that are being served keep their places', () => {
  const acts = table()
  for (let key = 0n; key < 16n; key++) expect(acts.begin(CONTAINER, TID, key)).toBeDefined()
  expect(acts.begin(CONTAINER, TID, KEY)).toBeUndefined()
  acts.forget(CONTAINER)
  expect(acts.begin(CONTAINER, TID, KEY)).toBeDefined()
})

test('a call that is being answered keeps nobody from looking at the next one, and its place until it is over', () => {
  const acts = table()
  const first = acts.begin(CONTAINER, TID, KEY)!
  acts.answering(first)
  acts.await(CONTAINER, TID, noWait)
  const again = acts.begin(CONTAINER, TID, KEY)!
  expect(again.at).not.toBe(first.at)
  expect(acts.take(CONTAINER, again, KEY, () => acts.end(CONTAINER, first, KEY, false, RESULT))).toBe(RESULT)
})

test('a call whose act is being done is waited for by the next one of its thread, and by no other', () => {
  const acts = table()
  const first = acts.begin(CONTAINER, TID, KEY)!
  acts.await(CONTAINER, (TID + 1) as Tid, noWait)
  acts.await(0, TID, noWait)
  let waited = 0
  acts.await(CONTAINER, TID, () => {
    waited++
    acts.answering(first)
  })
  expect(waited).toBe(1)
})
