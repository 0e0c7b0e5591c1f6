import { readdirSync, readlinkSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { Context, DetachedMount, Parameter } from '../../../../src/calls/context.ts'
import { FsContextStore } from '../../../../src/engine/kept/fs-context-store.ts'
import type { Fd, Handle } from '../../../../src/kernel/fd.ts'
import { pipe } from '../../../../src/kernel/fd.ts'
import { statx } from '../../../../src/kernel/files.ts'
import { ENTRIES, PERSISTENT_SIZE } from '../../../../src/link/persistent-layout.ts'
import { Locks } from '../../../../src/shared/lock.ts'
import { OwnVault, placeIn } from '../../../support/persistent-world.ts'

const PROCESS = 1 as Tid
/** As that of a context which is gone. */
const GONE = { index: 0, serial: -1 }
const TOLD = { type: 'ext4', parameters: [['source', '/none']], name: GONE } as const
const MANNER = { shift: true, nodev: true }
/** A container with this index. */
const of = (index: number) => ({ index, serial: index + 1 })
let now = 0
const memory = (): Int32Array => new Int32Array(PERSISTENT_SIZE / 4)
const contexts = (words = memory(), vault = new OwnVault()): FsContextStore =>
  new FsContextStore(placeIn(words, ENTRIES, 7), vault, () => now)

/** A descriptor of its own, and what it is: so that a test sees when it was closed. */
function descriptor(): { readonly fd: Fd; readonly raw: number; readonly isOpen: () => boolean } {
  const { read: fd, write } = pipe()
  write[Symbol.dispose]()
  const { raw } = fd
  const link = (): string | undefined => {
    try {
      return readlinkSync(`/proc/self/fd/${raw}`)
    } catch {
      return undefined
    }
  }
  const was = link()
  return { fd, raw, isOpen: () => link() === was }
}

const held = (all: FsContextStore, container: number, raw: number): Context => {
  const found = all.findContext(of(container), (opened) => opened.raw === raw)
  if (!found || found === 'busy') throw new Error(`It is ${found}`)
  return found
}

describe('Contexts', () => {
  test('keep what they were told', () => {
    const text = fc.string({
      unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
      maxLength: 255,
    })
    const parameter = fc.oneof(fc.tuple(text), fc.tuple(text, text)) as fc.Arbitrary<Parameter>
    fc.assert(
      fc.property(fc.array(parameter, { maxLength: 7 }), (parameters) => {
        const all = contexts()
        const { fd, raw } = descriptor()
        all.addContext(of(1), fd, 'ext4', PROCESS)
        for (const each of parameters) {
          using context = held(all, 1, raw)
          expect(context.add(each)).toBe(true)
        }
        {
          using context = held(all, 1, raw)
          expect([context.type, ...context.parameters]).toEqual(['ext4', ...parameters])
        }
        all.forget(of(1).serial)
      }),
    )
  })

  test('of a file system that stands keep what is in force until something else is told, and are not mounted', () => {
    const all = contexts()
    const [given, ours] = [descriptor(), descriptor()]
    all.addPicked(of(1), { type: 'tmpfs', given: given.fd, ours: ours.fd }, PROCESS)
    const told = (...more: readonly Parameter[]): readonly unknown[] => {
      {
        using context = held(all, 1, given.raw)
        for (const each of more) context.add(each)
      }
      using now = held(all, 1, given.raw)
      return [now.type, ...now.parameters, now.picked?.raw === ours.raw, now.made, now.hasFailed]
    }
    const apply = (): void => {
      using context = held(all, 1, given.raw)
      context.apply()
    }
    const SIZE = ['size', '1m'] as const
    expect(told(SIZE, ['ro'])).toEqual(['tmpfs', SIZE, ['ro'], true, undefined, false])
    apply()
    expect(told()).toEqual(['tmpfs', SIZE, ['ro'], true, undefined, false])
    expect(told(['rw'])).toEqual(['tmpfs', ['rw'], true, undefined, false])
    {
      using context = held(all, 1, given.raw)
      context.fail()
    }
    expect(told()).toEqual(['tmpfs', ['rw'], false, undefined, true])
    all.forget(of(1).serial)
    expect([given.isOpen(), ours.isOpen()]).toEqual([false, false])
  })

  test('take a page of parameters, and no more', () => {
    const all = contexts()
    const { fd, raw } = descriptor()
    all.addContext(of(1), fd, 'ext4', PROCESS)
    using context = held(all, 1, raw)
    const large: Parameter = ['k'.repeat(250), 'v'.repeat(250)]
    expect(Array.from({ length: 10 }, () => context.add(large)).filter(Boolean)).toHaveLength(8)
    context.endAfterCall()
  })

  test('are those of one container, its last sixteen', () => {
    const all = contexts()
    const mine = Array.from({ length: 17 }, () => {
      now++
      const made = descriptor()
      all.addContext(of(1), made.fd, 'ext4', PROCESS)
      return made
    })
    const theirs = descriptor()
    all.addContext(of(2), theirs.fd, 'ext4', PROCESS)
    expect(mine.map(({ isOpen }) => isOpen())).toEqual([false, ...Array.from({ length: 16 }, () => true)])
    expect(all.findContext(of(1), ({ raw }) => raw === theirs.raw)).toBeUndefined()
    all.forget(of(1).serial)
    expect(mine.some(({ isOpen }) => isOpen())).toBe(false)
    expect(theirs.isOpen()).toBe(true)
    all.forget(of(2).serial)
    expect(all.size).toBe(0)
  })

  test('make room for the seventeenth while a call uses the oldest: the next one ends', () => {
    const all = contexts()
    const mine = Array.from({ length: 16 }, () => {
      now++
      const made = descriptor()
      all.addContext(of(1), made.fd, 'ext4', PROCESS)
      return made
    })
    {
      using _inUse = held(all, 1, mine[0]!.raw)
      expect(all.addContext(of(1), descriptor().fd, 'ext4', PROCESS)).toBeDefined()
    }
    expect(mine.map(({ isOpen }) => isOpen())).toEqual([true, false, ...Array.from({ length: 14 }, () => true)])
    all.forget(of(1).serial)
    expect(all.size).toBe(0)
  })

  const takeAll = (all: FsContextStore, containers: number): void => {
    for (let count = 0; count < ENTRIES; count++) {
      now++
      expect(all.addContext(of(count % containers), descriptor().fd, 'ext4', PROCESS)).toBeDefined()
    }
  }
  const forgetAll = (all: FsContextStore): void => {
    for (let container = 0; container < ENTRIES; container++) all.forget(of(container).serial)
    expect(all.size).toBe(0)
  }

  test('are for all containers alike, when sixteen have taken all of them', () => {
    const all = contexts()
    takeAll(all, 16)
    const part = Math.trunc(ENTRIES / 17)
    const mine = Array.from({ length: part }, () => {
      now++
      const made = descriptor()
      expect(all.addContext(of(16), made.fd, 'ext4', PROCESS)).toBeDefined()
      return made
    })
    // Nobody takes what is within this part, however often the others ask.
    for (let count = 0; count < 100; count++) {
      now++
      all.addContext(of(count % 16), descriptor().fd, 'ext4', PROCESS)
    }
    expect(mine.every(({ isOpen }) => isOpen())).toBe(true)
    expect(all.size).toBe(ENTRIES)
    forgetAll(all)
  })

  test('are there for each container that has none, and are refused once each container has one', () => {
    const all = contexts()
    takeAll(all, 16)
    const one = Array.from({ length: ENTRIES - 16 }, (_, index) => {
      const made = descriptor()
      expect(all.addContext(of(16 + index), made.fd, 'ext4', PROCESS)).toBeDefined()
      return made
    })
    expect(one.every(({ isOpen }) => isOpen())).toBe(true)
    const refused = descriptor()
    expect(all.addContext(of(ENTRIES), refused.fd, 'ext4', PROCESS)).toBeUndefined()
    refused.fd[Symbol.dispose]()
    forgetAll(all)
  })

  test('make room where all are taken: the spent, then the oldest, none that a call has; a mount is closed elsewhere', () => {
    const vault = new OwnVault()
    const all = contexts(memory(), vault)
    const open = (container: number) => {
      now++
      const made = descriptor()
      all.addContext(of(container), made.fd, 'ext4', PROCESS)
      return made
    }
    const [used, root, tree] = [open(0), descriptor(), descriptor()]
    now++
    all.addMount(of(0), { root: root.fd, tree: tree.fd, unlockedCopy: undefined, told: TOLD, manner: MANNER }, PROCESS)
    const [spent, next] = [open(0), open(0)]
    for (let count = 4; count < 16; count++) open(0)
    for (let count = 16; count < ENTRIES; count++) open(1 + (count % 16))
    {
      using context = held(all, 0, spent.raw)
      context.fail()
    }
    {
      using _held = held(all, 0, used.raw)
      open(20)
      open(20)
      expect([spent, tree, used, next].map(({ isOpen }) => isOpen())).toEqual([false, false, true, true])
    }
    expect(vault.later).toBe(1)
    forgetAll(all)
  })

  test('of which nothing can be made any more make room before one that waits for its file system', () => {
    const all = contexts()
    const opened = Array.from({ length: 17 }, (_, count) => {
      now++
      const made = descriptor()
      all.addContext(of(1), made.fd, 'ext4', PROCESS)
      if (count === 5 || count === 9) {
        using context = held(all, 1, made.raw)
        if (count === 5) context.use()
        else context.fail()
      }
      return made
    })
    const gone = (): number[] => opened.flatMap(({ isOpen }, count) => (isOpen() ? [] : [count]))
    expect(gone()).toEqual([5])
    all.addContext(of(1), descriptor().fd, 'ext4', PROCESS)
    expect(gone()).toEqual([5, 9])
    all.addContext(of(1), descriptor().fd, 'ext4', PROCESS)
    expect(gone()).toEqual([0, 5, 9])
    all.forget(of(1).serial)
  })

  test('end when the call is over, with what was made', () => {
    const all = contexts()
    const [opened, made] = [descriptor(), descriptor()]
    all.addContext(of(1), opened.fd, 'ext4', PROCESS)
    {
      using context = held(all, 1, opened.raw)
      context.keep(made.fd)
      context.endAfterCall()
      expect([opened.isOpen(), made.isOpen()]).toEqual([true, true])
      expect(all.findContext(of(1), () => true)).toBeUndefined()
    }
    expect([opened.isOpen(), made.isOpen()]).toEqual([false, false])
  })

  test('are over once the caller uses the mount made from them, though nobody has told that it has that', () => {
    const all = contexts()
    const [opened, made, root, tree, another] = Array.from({ length: 5 }, descriptor)
    all.addContext(of(1), opened!.fd, 'ext4', PROCESS)
    all.addContext(of(1), another!.fd, 'ext4', PROCESS)
    {
      using context = held(all, 1, opened!.raw)
      context.keep(made!.fd)
      const mount = { root: root!.fd, tree: tree!.fd, unlockedCopy: undefined, manner: MANNER }
      all.addMount(of(1), { ...mount, told: context }, PROCESS)
    }
    expect([opened!.isOpen(), made!.isOpen()]).toEqual([true, true])
    {
      using _found = all.findMount(of(1), ({ raw }) => raw === tree!.raw) as DetachedMount
      expect([opened, made, tree, another].map((each) => each!.isOpen())).toEqual([false, false, true, true])
    }
    all.forget(of(1).serial)
  })

  test('are over then, though the thread that gave the mount is ending them just now', () => {
    const place = placeIn(memory(), ENTRIES, 7)
    const all = new FsContextStore(place, new OwnVault(), () => now)
    const [opened, made, root, tree] = Array.from({ length: 4 }, descriptor)
    all.addContext(of(1), opened!.fd, 'ext4', PROCESS)
    const context = held(all, 1, opened!.raw)
    context.keep(made!.fd)
    const mount = { root: root!.fd, tree: tree!.fd, unlockedCopy: undefined, manner: MANNER }
    all.addMount(of(1), { ...mount, told: context }, PROCESS)
    // The other thread lets it go after a while.
    const other = `const { workerData: locks } = require('node:worker_threads')
      setTimeout(() => { Atomics.store(locks, 0, 0); Atomics.notify(locks, 0) }, 300)`
    const worker = new Worker(other, { eval: true, workerData: place.locks })
    try {
      using _found = all.findMount(of(1), ({ raw }) => raw === tree!.raw) as DetachedMount
      expect([opened, made, tree].map((each) => each!.isOpen())).toEqual([false, false, true])
    } finally {
      void worker.terminate()
    }
    all.forget(of(1).serial)
  })

  test('are over though the thread that has one looked just before they were', () => {
    const all = contexts()
    const { fd, raw, isOpen } = descriptor()
    all.addContext(of(1), fd, 'ext4', PROCESS)
    const context = held(all, 1, raw)
    const release = vi.spyOn(Locks.prototype, 'release').mockImplementationOnce(function (this: Locks, lock) {
      all.forget(of(1).serial)
      release.mockRestore()
      this.release(lock)
    })
    context[Symbol.dispose]()
    expect({ isOpen: isOpen(), size: all.size }).toEqual({ isOpen: false, size: 0 })
  })

  test('that have ended are not taken for those in their place by who still has their name', () => {
    const all = contexts()
    const [first, second] = [descriptor(), descriptor()]
    all.addContext(of(1), first.fd, 'ext4', PROCESS)
    let endLate = (): void => {}
    {
      using context = held(all, 1, first.raw)
      endLate = () => context.endOnceUnlocked()
      context.endAfterCall()
    }
    all.addContext(of(1), second.fd, 'ext4', PROCESS)
    endLate()
    expect([first.isOpen(), second.isOpen()]).toEqual([false, true])
    endLate()
    all.forget(of(1).serial)
    expect(second.isOpen()).toBe(false)
  })

  test('are let go when their holder has closed them, or was never told to have them', () => {
    const all = contexts()
    const [kept, root, closed, lost] = [descriptor(), descriptor(), descriptor(), descriptor()]
    all.addContext(of(1), kept.fd, 'ext4', PROCESS)!.tell(3)
    all
      .addMount(
        of(1),
        { root: root.fd, tree: closed.fd, unlockedCopy: undefined, told: TOLD, manner: MANNER },
        PROCESS,
      )!
      .tell(4)
    all.addContext(of(1), lost.fd, 'ext4', PROCESS)
    const tidy = (): void => all.tidy(of(1), (_, { fd }) => fd === 3)
    tidy()
    expect([kept, closed, lost].map(({ isOpen }) => isOpen())).toEqual([true, false, true])
    now += 10
    tidy()
    expect([kept, lost].map(({ isOpen }) => isOpen())).toEqual([true, false])
    all.forget(of(1).serial)
  })

  test('end when their caller was gone before it got them', () => {
    const all = contexts()
    const { fd, isOpen } = descriptor()
    all.addContext(of(1), fd, 'ext4', PROCESS)!.tell(undefined)
    expect({ isOpen: isOpen(), size: all.size }).toEqual({ isOpen: false, size: 0 })
  })

  test('are busy while a call has them', () => {
    const all = contexts()
    const { fd, raw } = descriptor()
    all.addContext(of(1), fd, 'ext4', PROCESS)
    using context = held(all, 1, raw)
    expect(all.findContext(of(1), () => true)).toBe('busy')
    context.endAfterCall()
  })

  test('go on in the next engine, with what they were told and what was made, also if a call had one when the first ended', () => {
    const [words, vault] = [memory(), new OwnVault()]
    const before = contexts(words, vault)
    const [opened, made] = [descriptor(), descriptor()]
    const { ino } = statx(opened.raw)
    before.addContext(of(1), opened.fd, 'ext4', PROCESS)!.tell(3)
    const context = held(before, 1, opened.raw)
    context.add(['source', '/dev/x'])
    context.keep(made.fd)
    const after = contexts(words, vault)
    after.restore(vault.legacy())
    const isIt = ({ raw }: Handle): boolean => statx(raw).ino === ino
    {
      using again = after.findContext(of(1), isIt) as Context
      expect(again).toMatchObject({ type: 'ext4', parameters: [['source', '/dev/x']], isUsed: false })
      expect(statx(again.made!.raw).ino).toBe(statx(made.raw).ino)
      expect(again.made!.raw).not.toBe(made.raw)
      again.endAfterCall()
    }
    expect({ size: after.size, kept: vault.places }).toEqual({ size: 0, kept: [] })
  })

  test.each([
    ['the root', 0],
    ['the mount', 1],
    ['its copy', 2],
  ])('end if %s was not kept, and nothing stays open', (_, index) => {
    const [words, vault] = [memory(), new OwnVault()]
    const before = contexts(words, vault)
    const [root, tree, free] = [descriptor(), descriptor(), descriptor()]
    before.addMount(of(1), { root: root.fd, tree: tree.fd, unlockedCopy: free.fd, told: TOLD, manner: MANNER }, PROCESS)
    const descriptors = readdirSync('/proc/self/fd').length
    vault.drop([vault.places[index]!])
    const after = contexts(words, vault)
    const legacy = vault.legacy()
    after.restore(legacy)
    expect(legacy.rest()).toEqual([])
    expect({ size: after.size, kept: vault.places }).toEqual({ size: 0, kept: [] })
    // The copies of the vault are gone too.
    expect(readdirSync('/proc/self/fd')).toHaveLength(descriptors - 3)
  })
})
