import { readlinkSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Tid } from '../../src/abi/brand.ts'
import type { Context, Parameter } from '../../src/calls/context.ts'
import { CONTEXT_BYTES, Contexts } from '../../src/engine/contexts.ts'
import type { Fd } from '../../src/kernel/fd.ts'
import { pipe } from '../../src/kernel/pipe.ts'

let now = 0
const contexts = (): Contexts => new Contexts(new SharedArrayBuffer(CONTEXT_BYTES), () => now)

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

const held = (all: Contexts, container: number, raw: number): Context => {
  const found = all.findContext(container, (opened) => opened.raw === raw)
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
        all.addContext(1, fd, 'ext4')
        for (const each of parameters) {
          using context = held(all, 1, raw)
          expect(context.add(each)).toBe(true)
        }
        {
          using context = held(all, 1, raw)
          expect([context.type, ...context.parameters]).toEqual(['ext4', ...parameters])
        }
        all.forget(1)
      }),
    )
  })

  test('take a page of parameters, and no more', () => {
    const all = contexts()
    const { fd, raw } = descriptor()
    all.addContext(1, fd, 'ext4')
    using context = held(all, 1, raw)
    const large: Parameter = ['k'.repeat(250), 'v'.repeat(250)]
    expect(Array.from({ length: 10 }, () => context.add(large)).filter(Boolean)).toHaveLength(8)
    context.end()
  })

  test('of a container are its own, and the last eight', () => {
    const all = contexts()
    const mine = Array.from({ length: 9 }, () => {
      now++
      const made = descriptor()
      all.addContext(1, made.fd, 'ext4')
      return made
    })
    const theirs = descriptor()
    all.addContext(2, theirs.fd, 'ext4')
    expect(mine.map(({ isOpen }) => isOpen())).toEqual([false, ...Array.from({ length: 8 }, () => true)])
    expect(all.findContext(1, ({ raw }) => raw === theirs.raw)).toBeUndefined()
    all.forget(1)
    expect(mine.some(({ isOpen }) => isOpen())).toBe(false)
    expect(theirs.isOpen()).toBe(true)
    all.forget(2)
    expect(all.size).toBe(0)
  })

  test('end when the call is over, with what was made', () => {
    const all = contexts()
    const [opened, made] = [descriptor(), descriptor()]
    all.addContext(1, opened.fd, 'ext4')
    {
      using context = held(all, 1, opened.raw)
      context.keep(made.fd)
      context.end()
      expect([opened.isOpen(), made.isOpen()]).toEqual([true, true])
      expect(all.findContext(1, () => true)).toBeUndefined()
    }
    expect([opened.isOpen(), made.isOpen()]).toEqual([false, false])
  })

  test('are let go when their holder has closed them, or was never told to have them', () => {
    const all = contexts()
    const [kept, closed, lost] = [descriptor(), descriptor(), descriptor()]
    const process = 1 as Tid
    all.addContext(1, kept.fd, 'ext4')!({ process, fd: 3 })
    all.addMount(1, closed.fd, undefined)!({ process, fd: 4 })
    all.addContext(1, lost.fd, 'ext4')
    const tidy = (): void => all.tidy(1, (_, __, { fd }) => fd === 3)
    tidy()
    expect([kept, closed, lost].map(({ isOpen }) => isOpen())).toEqual([true, false, true])
    now += 10
    tidy()
    expect([kept, lost].map(({ isOpen }) => isOpen())).toEqual([true, false])
    all.forget(1)
  })

  test('whoever comes while a call has one is told that it is busy', () => {
    const all = contexts()
    const { fd, raw } = descriptor()
    all.addContext(1, fd, 'ext4')
    using context = held(all, 1, raw)
    expect(all.findContext(1, () => true)).toBe('busy')
    context.end()
  })
})
