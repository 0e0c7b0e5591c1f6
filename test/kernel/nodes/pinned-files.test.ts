import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Dev, Mode, PathBytes } from '../../../src/abi/brand.ts'
import { makedev, S_IFCHR } from '../../../src/abi/stat.ts'
import { PINNED_WORDS, PinnedFiles } from '../../../src/engine/facts/pinned-files.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { fileSystemId, inodesOf, mknodat, unlinkat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { detachedTmpfs } from '../../../src/kernel/mount.ts'
import { fixture } from '../../support/fixtures.ts'
import { BASE, execute, Host, mknodPolicy } from '../../support/host.ts'
import { mounters } from '../../support/mounters.ts'
import { withReason } from '../../support/skipped.ts'

const LIMIT = 1024
const CONTAINER = 1

function withoutIds(): string | undefined {
  using made = detachedTmpfs([])
  return fileSystemId(made) === 0n ? 'before Linux 5.13 a tmpfs has no id' : undefined
}
const unknown = withoutIds()

describe.skipIf(unknown)(withReason('nodes on a tmpfs', unknown), () => {
  let files: PinnedFiles
  let serial = 0
  beforeEach(() => {
    files = new PinnedFiles(new Int32Array(new SharedArrayBuffer(8 * PINNED_WORDS)))
  })

  const nameOf = (number: number): PathBytes => cstring(`n${number}`) as PathBytes
  /** Makes up to `count`, until the container would be charged for one. @returns their numbers */
  function make(dir: Fd, count: number): readonly number[] {
    const made: number[] = []
    for (; made.length < count && files.countFile(CONTAINER, dir); made.push(serial++))
      mknodat(dir, nameOf(serial), (S_IFCHR | 0o600) as Mode, makedev(1, 3) as Dev)
    return made
  }
  function makeAndRemove(dir: Fd, count: number): number {
    const made = make(dir, count)
    for (const number of made) unlinkat(dir, nameOf(number))
    return made.length
  }

  test('count no more once the container has removed them', () => {
    using dir = detachedTmpfs([])
    for (let round = 0; round < 5; round++) expect(makeAndRemove(dir, 700)).toBe(700)
  })

  test('count as long as they are there', () => {
    using dir = detachedTmpfs([])
    make(dir, 600)
    for (let round = 0; round < 20; round++) makeAndRemove(dir, 100)
    make(dir, LIMIT)
    expect(make(dir, 1)).toEqual([])
    expect(inodesOf(dir)).toBeLessThanOrEqual(LIMIT + 1)
  })

  test('count although another tmpfs is empty', () => {
    using full = detachedTmpfs([])
    using empty = detachedTmpfs([])
    make(full, 1000)
    for (let round = 0; round < 20; round++) makeAndRemove(empty, 100)
    make(full, LIMIT)
    makeAndRemove(empty, 100)
    expect(inodesOf(full)).toBeLessThanOrEqual(LIMIT + 1)
  })

  test('always count where the file system counts no inodes', () => {
    using dir = detachedTmpfs([['nr_inodes', '0']])
    expect(makeAndRemove(dir, 2 * LIMIT)).toBe(LIMIT)
    expect(make(dir, 1)).toEqual([])
  })

  test('do not count for the next container with that number', () => {
    using dir = detachedTmpfs([])
    make(dir, LIMIT)
    files.forget(CONTAINER)
    expect(make(dir, 2 * LIMIT)).toHaveLength(LIMIT)
  })
})

describe.skipIf(unknown)(withReason('a container that makes and removes nodes all the time', unknown), () => {
  let host: Host
  let place: string
  beforeAll(async () => {
    host = await Host.start(mknodPolicy)
    place = join(host.directory, 'place')
    mkdirSync(place)
    await execute('mount', ['-t', 'tmpfs', '-o', `uid=${BASE}`, 'intercede-test', place])
  })
  afterAll(async () => {
    await execute('umount', ['--lazy', place])
    host?.close()
  })

  test('needs no mounter', async () => {
    const loop = [fixture('mknod-loop'), '--count', String(3 * LIMIT), join(place, 'n')]
    const { stdout, stderr } = await host.run([], loop)
    expect({ stderr, ...JSON.parse(stdout) }).toMatchObject({ stderr: '', calls: 3 * LIMIT, errors: {} })
    expect(mounters(host.enginePid)).toEqual([])
  })
})
