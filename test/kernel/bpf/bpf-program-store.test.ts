import { expect, test } from 'vitest'
import { BpfProgramStore, STORE_LOCKS, STORE_WORDS } from '../../../src/caller/programs/bpf-program-store.ts'
import type { OwnProgram } from '../../../src/calls/device-programs.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { isAbandoned, pipe } from '../../../src/kernel/fd.ts'
import { statx } from '../../../src/kernel/files.ts'
import { OwnVault, placeIn } from '../../support/persistent-world.ts'

const LIMIT = 128
const missing = (): boolean => false
const there = (): boolean => true

/** A program: any descriptor will do. What comes back is what the container gets. */
function add(store: BpfProgramStore, container: number, about: OwnProgram, exists: () => boolean): Fd | undefined {
  const { read, write } = pipe()
  const other = pipe()
  other.read[Symbol.dispose]()
  const { ino: inode } = statx(read.raw)
  const standing = { ...about, program: other.write, standIn: write, inode }
  if (store.add(container, standing, { program: exists, link: exists }, () => {})) return read
  for (const fd of [read, write, other.write]) fd[Symbol.dispose]()
  return undefined
}

const memory = (): Int32Array => new Int32Array(2 * STORE_WORDS + 5)
const store = (words = memory(), vault = new OwnVault()): BpfProgramStore =>
  new BpfProgramStore(placeIn(words, 2 * STORE_LOCKS, 5), vault)
const big = { id: 0x8000_0001, loaded: 0xfedc_ba98_7654_3210n }

test('a program is found by what stands for it and by its number, in its own container only', () => {
  const programs = store()
  using standIn = add(programs, 1, big, there)!
  const { ino } = statx(standIn.raw)
  expect(programs.named(1, ino)).toEqual(big)
  expect(programs.numbered(1, big.id)).toEqual(big)
  expect(programs.named(0, ino)).toBeUndefined()
  expect(programs.numbered(0, big.id)).toBeUndefined()
  expect(programs.named(1, ino + 1n)).toBeUndefined()
  using opened = programs.open(1, big)
  expect(opened).toBeDefined()
  expect(programs.open(1, { ...big, loaded: 1n })).toBeUndefined()
  programs.forget(1)
})

test('the number of a program that nothing stands for any more is known, until the kernel does not know it', () => {
  const programs = store()
  add(programs, 0, big, there)![Symbol.dispose]()
  using other = add(programs, 0, { id: 2, loaded: 2n }, there)!
  expect(programs.open(0, big)).toBeUndefined()
  expect(programs.numbered(0, big.id)).toEqual(big)
  const rest = Array.from({ length: LIMIT - 2 }, (_, index) => add(programs, 0, { id: 10 + index, loaded: 3n }, there))
  expect(rest.every((fd) => fd !== undefined)).toBe(true)
  expect(add(programs, 0, { id: 3, loaded: 3n }, there)).toBeUndefined()
  using last = add(programs, 0, { id: 3, loaded: 3n }, missing)!
  expect(programs.numbered(0, big.id)).toBeUndefined()
  expect(programs.named(0, statx(last.raw).ino)).toEqual({ id: 3, loaded: 3n })
  expect(programs.named(0, statx(other.raw).ino)).toEqual({ id: 2, loaded: 2n })
  programs.forget(0)
  for (const fd of rest) fd![Symbol.dispose]()
})

test('where all places are taken, the keeper may still have copies of programs that are gone', () => {
  const vault = new OwnVault()
  const programs = store(memory(), vault)
  const later = (): boolean => vault.settled === 0
  for (let id = 0; id < LIMIT; id++) add(programs, 0, { id, loaded: 1n }, later)![Symbol.dispose]()
  expect(vault.settled).toBe(0)
  using last = add(programs, 0, { id: LIMIT, loaded: 1n }, later)!
  expect(vault.settled).toBe(1)
  expect(programs.named(0, statx(last.raw).ino)).toEqual({ id: LIMIT, loaded: 1n })
  programs.forget(0)
})

test('a link takes the place of a program that nothing stands for any more', () => {
  const programs = store()
  const all = Array.from({ length: LIMIT }, (_, id) => add(programs, 0, { id, loaded: 1n }, there)!)
  const exists = { program: missing, link: there }
  expect(programs.addLink(0, 1, exists, () => {})).toBe(false)
  for (const fd of all) fd[Symbol.dispose]()
  expect(programs.addLink(0, 1, exists, () => {})).toBe(true)
  programs.forget(0)
})

test('a program that is opened again takes its old place', () => {
  const programs = store()
  for (let count = 0; count < 3 * LIMIT; count++) add(programs, 0, big, there)![Symbol.dispose]()
  using standIn = add(programs, 0, big, there)!
  expect(programs.named(0, statx(standIn.raw).ino)).toEqual(big)
  programs.forget(0)
  expect(programs.named(0, statx(standIn.raw).ino)).toBeUndefined()
})

test('isAbandoned() when the last copy of the other end is closed', () => {
  const { read, write } = pipe()
  using end = write
  expect(isAbandoned(end.raw)).toBe(false)
  read[Symbol.dispose]()
  expect(isAbandoned(end.raw)).toBe(true)
})

test('the next engine knows programs by what stands for them and by their numbers, and a lost one by its number', () => {
  const [words, vault] = [memory(), new OwnVault()]
  const before = store(words, vault)
  using standIn = add(before, 1, big, there)!
  const { ino } = statx(standIn.raw)
  const after = store(words, vault)
  after.restore(1, vault.legacy())
  expect(after.named(1, ino)).toEqual(big)
  using _ = after.open(1, big)!
  vault.drop([vault.places[0]!])
  const late = store(words, vault)
  late.restore(1, vault.legacy())
  expect(late.named(1, ino)).toBeUndefined()
  expect(late.numbered(1, big.id)).toEqual(big)
  expect(vault.places).toEqual([])
})
