import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../../src/abi/fcntl.ts'
import {
  cgroupFiles,
  countTasks,
  firstDirectories,
  legacyLevels,
  TOP,
  unifiedLevels,
} from '../../../../src/caller/sysinfo/cgroup.ts'
import type { Fd } from '../../../../src/kernel/fd.ts'
import { openat } from '../../../../src/kernel/files.ts'
import { cstring } from '../../../../src/kernel/libc.ts'

const MiB = 2 ** 20
const NONE = Number.POSITIVE_INFINITY
const scratch = mkdtempSync(join(tmpdir(), 'intercede-levels-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const open = (path: string): Fd => openat(AT_FDCWD, cstring(path), O_PATH | O_DIRECTORY)

/** Writes a tree of groups as their files; the real reader reads it. */
function group(path: string, files: Readonly<Record<string, string>>): Fd {
  mkdirSync(join(scratch, path), { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(scratch, path, name), text)
  return open(join(scratch, path))
}

describe('unifiedLevels()', () => {
  test('reads the group and those that it lies in, and skips one without the controller', () => {
    using _top = group('v2', { 'memory.max': 'max\n', 'memory.current': '0\n', 'memory.swap.max': '0\n' })
    using _middle = group('v2/middle', {
      'memory.max': '128974848\n',
      'memory.current': '104857600\n',
      'memory.swap.max': '1048576\n',
      'memory.swap.current': '4096\n',
      'memory.stat':
        'anon 1\nfile 90000000\nshmem 8192\ninactive_file 60000000\nactive_file 30000000\nslab_reclaimable 77\n',
    })
    using leaf = group('v2/middle/leaf', { 'cgroup.procs': '' })
    expect(unifiedLevels(cgroupFiles(leaf.raw))).toEqual([
      {
        limit: 123 * MiB,
        usage: 104_857_600,
        used: 104_857_600 - 90_000_000,
        swapLimit: MiB,
        swapUsed: 4096,
        shared: 8192,
        kernelCache: 77,
      },
      { limit: NONE, usage: 0, used: 0, swapLimit: 0, swapUsed: 0, shared: 0, kernelCache: 0 },
    ])
  })

  test('takes a first line of memory.stat, not a line whose name only ends alike, and never less than nothing', () => {
    using only = group('stat', {
      'memory.max': '4096\n',
      'memory.current': '10\n',
      'memory.stat': 'shmem 5\nworkingset_inactive_file 9\ninactive_file 20\n',
    })
    expect(unifiedLevels(cgroupFiles(only.raw))).toMatchObject([{ limit: 4096, used: 0, shared: 5, swapLimit: NONE }])
  })
})

describe('legacyLevels()', () => {
  test('subtracts memory from what v1 limits together with swap, and counts the groups below', () => {
    using only = group('v1', {
      'memory.limit_in_bytes': '128974848\n',
      'memory.usage_in_bytes': '50000000\n',
      'memory.memsw.limit_in_bytes': '138974848\n',
      'memory.memsw.usage_in_bytes': '51000000\n',
      'memory.stat': 'inactive_file 1\ntotal_inactive_file 10000000\ntotal_active_file 20000000\ntotal_shmem 3\n',
    })
    expect(legacyLevels(cgroupFiles(only.raw))).toEqual([
      {
        limit: 123 * MiB,
        usage: 50_000_000,
        used: 20_000_000,
        swapLimit: 10_000_000,
        swapUsed: 1_000_000,
        shared: 3,
        kernelCache: 0,
      },
    ])
  })

  test('takes the number that v1 writes for no limit as none, also for swap', () => {
    const unlimited = '9223372036854771712\n'
    using only = group('v1none', { 'memory.limit_in_bytes': unlimited, 'memory.memsw.limit_in_bytes': unlimited })
    expect(legacyLevels(cgroupFiles(only.raw))).toMatchObject([{ limit: NONE, swapLimit: NONE, swapUsed: 0 }])
  })
})

describe('groupFiles()', () => {
  const v2 = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
    readdirSync(path).includes('cgroup.controllers'),
  )

  test('does not leave the file system of the groups', ({ skip }) => {
    if (!v2) return skip('no cgroup v2 is mounted')
    using root = open(v2)
    const read = cgroupFiles(root.raw)
    expect(read(0, 'cgroup.controllers')).toBeTypeOf('string')
    expect(read(1, 'cgroup.controllers')).toBe(TOP)
    expect(read(0, 'memory.max')).toBeUndefined()
  })

  test('reads a list that is longer than a page', () => {
    using long = group('long', { list: '12345\n'.repeat(2000) })
    expect(cgroupFiles(long.raw)(0, 'list')).toHaveLength(12_000)
  })
})

describe('countTasks()', () => {
  test('takes pids.current', () => {
    using counted = group('pids', { 'pids.current': '42\n', 'cgroup.threads': '1\n' })
    expect(countTasks(counted.raw)).toBe(42)
  })

  beforeAll(() => {
    for (const path of ['tree/a', 'tree/a/b']) group(path, { 'cgroup.threads': '7\n' })[Symbol.dispose]()
  })

  test('counts the tasks of the groups below where nothing else does', () => {
    using tree = group('tree', {
      'cgroup.threads': '1\n2\n',
      'cgroup.stat': 'nr_descendants 2\nnr_dying_descendants 0\n',
    })
    expect(countTasks(tree.raw)).toBe(4)
  })

  test('looks at a few groups only of however many there are', () => {
    let read = 0
    const endless = { readSync: () => ({ name: `${read++}`, isDirectory: () => read % 2 === 0 }) }
    expect(firstDirectories(endless, 3)).toEqual(['1', '3', '5'])
    expect(read).toBeLessThan(10)
  })

  test('knows nothing of a directory that is no group', () => {
    using nothing = group('nothing', {})
    expect(statSync(join(scratch, 'nothing')).isDirectory()).toBe(true)
    expect(countTasks(nothing.raw)).toBeUndefined()
  })
})
