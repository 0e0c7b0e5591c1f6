import { expect, test, vi } from 'vitest'
import type { Dev, Mode, PathBytes, Tid } from '../../../../src/abi/brand.ts'
import { AT_FDCWD, O_PATH } from '../../../../src/abi/fcntl.ts'
import type { NotifiedCaller } from '../../../../src/caller/caller.ts'
import type { Container } from '../../../../src/caller/identity/container.ts'
import type { Act } from '../../../../src/calls/act.ts'
import { Replays } from '../../../../src/engine/replay/replay.ts'
import { REPLY_CACHE_WORDS, ReplyCache } from '../../../../src/engine/replay/reply-cache.ts'
import { openat } from '../../../../src/kernel/files.ts'
import { cstring } from '../../../../src/kernel/libc.ts'

const TID = 42 as Tid
const KEY = 7n
const container = { index: 0, waitKillable: false } as Container
const waiting = (): boolean => true

const table = (): ReplyCache => new ReplyCache(new Int32Array(new SharedArrayBuffer(4 * REPLY_CACHE_WORDS)))

/** More looks than are made without a pause. */
const LONG = 6

/** @param after so many looks it is awake, for LONG */
function callerThatWakes(after: number): NotifiedCaller {
  let looks = 0
  const sleep = {
    get isSound(): boolean {
      looks++
      return looks <= after || looks > after + LONG
    },
    stamp: () => ({ born: 1, stack: 2n }),
  }
  return { tid: TID, sleep } as unknown as NotifiedCaller
}

const act: Act = {
  verb: 'mknod',
  dir: openat(AT_FDCWD, cstring('/'), O_PATH),
  name: cstring('n') as PathBytes,
  mode: 0 as Mode,
  dev: 0 as Dev,
}

const adoptions = (acts: ReplyCache, mayBlock: () => void): Replays =>
  new Replays(acts, new DataView(new SharedArrayBuffer(256)), mayBlock)

const begun = (mayBlock: () => void, caller: NotifiedCaller) =>
  adoptions(table(), mayBlock).replayOf(act, caller, { container, slot: 0 }, waiting)!

test('the lead is passed before a wait for a caller that is awake, and only then', () => {
  const mayBlock = vi.fn()
  begun(mayBlock, callerThatWakes(100)).answer(() => true)
  expect(mayBlock).not.toHaveBeenCalled()
  const adoption = begun(mayBlock, callerThatWakes(0))
  expect(mayBlock).toHaveBeenCalledOnce()
  adoption.answer(() => true)
  expect(mayBlock).toHaveBeenCalledOnce()
})

test('the lead is passed before a caller that is awake gets its answer', () => {
  const mayBlock = vi.fn()
  begun(mayBlock, callerThatWakes(1)).answer(() => true)
  expect(mayBlock).toHaveBeenCalledOnce()
})

test('the lead is passed before a wait for the call before', () => {
  const acts = table()
  const place = acts.begin(0, TID, KEY)!
  const mayBlock = vi.fn(() => acts.answering(place))
  adoptions(acts, mayBlock).await(container, TID)
  expect(mayBlock).toHaveBeenCalledOnce()
  adoptions(acts, mayBlock).await(container, TID)
  expect(mayBlock).toHaveBeenCalledOnce()
})
