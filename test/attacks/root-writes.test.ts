// Root writes a profile or a bundle below a directory of somebody else, who exchanges directories and links meanwhile. The
// kernel bars links of others in sticky directories only, and only with fs.protected_symlinks, fs/namei.c may_follow_link().
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { writeNew, writeWhole } from '../../src/cli/write-whole.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc')
const SOMEBODY = 64_123
/** The old code lost within 30 rounds. */
const ROUNDS = 1000

const scratch = mkdtempSync(join(tmpdir(), 'intercede-writes-'))
chmodSync(scratch, 0o755)
const [theirs, victim] = [join(scratch, 'theirs'), join(scratch, 'victim')]
const at = (...names: readonly string[]): string => join(theirs, ...names)
const given = (path: string): string => {
  lchownSync(path, SOMEBODY, SOMEBODY)
  return path
}
function file(path: string, owner: number): void {
  writeFileSync(path, 'old')
  chownSync(path, owner, owner)
}

beforeEach(() => {
  for (const path of [theirs, victim, at('d')]) mkdirSync(path)
  for (const path of [theirs, at('d')]) given(path)
  symlinkSync(victim, at('e'))
  given(at('e'))
})
afterEach(() => {
  for (const path of [theirs, victim]) rmSync(path, { recursive: true })
})
afterAll(() => rmSync(scratch, { recursive: true }))

/** Writes over and over while two names of theirs are exchanged. @returns the sentences of refusals, and how often it was written */
async function underSwaps(
  write: () => void,
): Promise<{ readonly refusals: readonly string[]; readonly written: number }> {
  const swapper: ChildProcess = spawn(fixture('name-swapper'), [String(SOMEBODY), at('d'), at('e')])
  const refusals = new Set<string>()
  let written = 0
  try {
    await once(swapper.stdout!, 'data')
    for (let round = 0; round < ROUNDS && readdirSync(victim).length === 0; round++) {
      try {
        write()
        written++
      } catch (error) {
        refusals.add((error as Error).message.replace(/^.* (belongs to user \d+|ENOTDIR|ENOENT|EEXIST).*$/, '$1'))
      }
    }
    expect(swapper.exitCode).toBeNull()
  } finally {
    swapper.kill('SIGKILL')
    await once(swapper, 'close')
  }
  return { refusals: [...refusals], written }
}

describe.skipIf(cannot)(withReason('while directories are exchanged, root writes', cannot), () => {
  test('nothing by a link of theirs to a file of theirs', async () => {
    file(at('d', 'ld.so.preload'), SOMEBODY)
    symlinkSync(at('d', 'ld.so.preload'), at('p.json'))
    given(at('p.json'))
    const { refusals, written } = await underSwaps(() => writeWhole(at('p.json'), 'new'))
    expect({ refusals, written, victim: readdirSync(victim) }).toEqual({
      refusals: [`belongs to user ${SOMEBODY}`],
      written: 0,
      victim: [],
    })
  })

  test('a file of root only in their directory', async () => {
    file(at('d', 'p.json'), 0)
    const { written } = await underSwaps(() => writeWhole(at('d', 'p.json'), 'new'))
    expect(written).toBeGreaterThan(0)
    expect(written).toBeLessThan(ROUNDS)
    expect(readdirSync(victim)).toEqual([])
  })

  test('a new file only in their directory', async () => {
    let serial = 0
    const { written } = await underSwaps(() => writeNew(at('d', String(serial++)), Buffer.from('new')))
    expect(written).toBeGreaterThan(0)
    expect(written).toBeLessThan(ROUNDS)
    expect(readdirSync(victim)).toEqual([])
  })
})

describe('root writes', () => {
  test('no file of somebody else, who could change it afterwards', () => {
    file(at('p.json'), SOMEBODY)
    expect(() => writeWhole(at('p.json'), 'new')).toThrow(
      `"p.json" belongs to user ${SOMEBODY}, who could change it afterwards; remove it first, or name another file`,
    )
    expect(readFileSync(at('p.json'), 'utf8')).toBe('old')
    expect(readdirSync(theirs).sort()).toEqual(['d', 'e', 'p.json'])
  })

  test('a file of its own in their directory, which stays its own', () => {
    file(at('p.json'), 0)
    chmodSync(at('p.json'), 0o640)
    writeWhole(at('p.json'), 'new')
    const { uid, mode } = lstatSync(at('p.json'))
    expect({ text: readFileSync(at('p.json'), 'utf8'), uid, mode }).toEqual({ text: 'new', uid: 0, mode: 0o100640 })
  })

  test('by no link of root in their directory: they may have moved it there', () => {
    symlinkSync(victim, at('l'))
    expect(() => writeWhole(at('l', 'p.json'), 'new')).toThrow(/"l" in ".*" is in a directory of other users/)
    expect(readdirSync(victim)).toEqual([])
  })

  test('by links of root in directories of root', () => {
    symlinkSync('victim', join(scratch, 'to'))
    symlinkSync('../to/real.json', join(victim, 'p.json'))
    writeWhole(join(scratch, 'to', 'p.json'), 'new')
    expect(readdirSync(victim).sort()).toEqual(['p.json', 'real.json'])
    expect(lstatSync(join(victim, 'p.json')).isSymbolicLink()).toBe(true)
    expect(readFileSync(join(victim, 'real.json'), 'utf8')).toBe('new')
  })

  test('nothing by links in a ring', () => {
    symlinkSync('b', join(victim, 'a'))
    symlinkSync('a', join(victim, 'b'))
    expect(() => writeWhole(join(victim, 'a'), 'new')).toThrow(/leads over too many links; name another file/)
  })
})
