import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { PathBytes } from '../../../src/abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../src/abi/fcntl.ts'
import { WAS_NOT } from '../../../src/calls/act.ts'
import { openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { noteAbsence, standing } from '../../../src/verbs/create.ts'
import { standIn } from '../../support/caller-stand-in.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-create-'))
const dir = openat(AT_FDCWD, cstring(scratch), O_PATH | O_DIRECTORY)
afterAll(() => {
  dir[Symbol.dispose]()
  rmSync(scratch, { recursive: true })
})

const bytes = (name: string): PathBytes => cstring(name) as Uint8Array as PathBytes

test('a link of the container is not followed from our root, whatever slashes come after its name', () => {
  symlinkSync('/nobody/has/this', join(scratch, 'missing'))
  symlinkSync('/', join(scratch, 'root'))
  const notes: bigint[] = []
  const caller = standIn({ note: (note) => notes.push(note) })
  for (const name of ['missing/', 'missing//', 'root/', 'missing', 'root']) noteAbsence(caller, dir, bytes(name))
  expect(notes).toEqual([])
  noteAbsence(caller, dir, bytes('absent'))
  expect(notes).toEqual([WAS_NOT])
  for (const name of ['root/', 'root//', 'missing/']) expect(standing(caller, dir, bytes(name))).toBe(undefined)
  using link = standing(caller, dir, bytes('root'))
  expect(link).toBeDefined()
})
