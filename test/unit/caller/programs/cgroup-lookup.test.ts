import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { AT_FDCWD, O_PATH } from '../../../../src/abi/fcntl.ts'
import { foreignProcesses } from '../../../../src/caller/programs/cgroup-lookup.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import { openat } from '../../../../src/kernel/files.ts'
import { cstring } from '../../../../src/kernel/libc.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-place-'))
afterAll(() => rmSync(scratch, { recursive: true }))
const handle = (path: string): Fd => openat(AT_FDCWD, cstring(path), O_PATH)
const own = BigInt(statSync('/proc/self/ns/user').ino)

test.each([
  { processes: 3, waits: 0 },
  { processes: 64, waits: 0 },
  { processes: 65, waits: 1 },
])('of $processes processes: another thread serves the other calls $waits times', ({ processes, waits }) => {
  writeFileSync(join(scratch, 'cgroup.procs'), `${process.pid}\n`.repeat(processes))
  using group = handle(scratch)
  using proc = handle('/proc')
  let waited = 0
  const mayTakeLong = (): number => waited++
  expect(foreignProcesses(group, own, proc, mayTakeLong)).toBeUndefined()
  expect(foreignProcesses(group, own + 1n, proc, mayTakeLong)).toBe('sharedCgroup')
  expect(waited).toBe(2 * waits)
})
