// A runtime is to start a program, or to go to a directory, by way of /proc (CVE-2019-5736, CVE-2024-21626): ELOOP.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { hasRuntime, run, sh, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const cannot = unable() ?? missing('gcc')
const runtimes = (['crun', 'runc'] as const).filter(hasRuntime)
const shared = mkdtempSync(join(tmpdir(), 'intercede-attack-'))

beforeAll(() => {
  chmodSync(shared, 0o755)
  // It says that it was started, and where.
  writeFileSync(join(shared, 'spy'), '#!/bin/sh\necho started as $0 in $(pwd) >>/tmp/said\nexit 9\n', { mode: 0o755 })
  if (!cannot) writeFileSync(join(shared, 'mount2'), readFileSync(fixture('mount-call', ['-static'])), { mode: 0o755 })
})
afterAll(() => rmSync(shared, { recursive: true }))

/** What the container said, what the program has said, and what intercede says at the end. */
function mounting(runtime: string, program: string, script: string) {
  const options = [
    '--runtime',
    runtime,
    '-c',
    'mount',
    '-c',
    `mount.fuse=ext4=${program}`,
    '--bind',
    `${shared}:/shared:ro`,
  ]
  const end = 'cat /tmp/said 2>/dev/null; true'
  const { stdout, stderr } = run([...options, ...sh(`mkdir -p /tmp/m; ${script}; ${end}`)])
  return { lines: stdout.trim().split('\n'), stderr }
}
const MOUNT = '/shared/mount2 ext4 /dev/null /tmp/m'
const REASON = 'the path leads through a link of procfs'

describe.skipIf(cannot).each(runtimes)(withReason('mount.fuse with %s', cannot), (runtime) => {
  test('the program of the image is started where the caller is', () => {
    const { lines } = mounting(runtime, '/shared/spy', `cd /usr/lib && ${MOUNT}`)
    expect(lines).toEqual(['EINVAL', 'started as /shared/spy in /usr/lib'])
  })

  test.each([
    { what: 'a path through /proc', program: '/proc/self/root/shared/spy', before: 'true' },
    { what: 'a path to /proc that is no link', program: '/proc/../shared/spy', before: 'true' },
    { what: 'a path to /proc from above the root', program: '/../proc/../shared/spy', before: 'true' },
    {
      what: 'a path that leads to something else for now',
      program: '/../proc/x/spy',
      before: 'mount -t tmpfs none /proc && mkdir /proc/x && cp /shared/spy /proc/x',
    },
    { what: 'a link to what runs', program: '/tmp/program', before: 'ln -s /proc/self/exe /tmp/program' },
    { what: 'a directory that leads there', program: '/tmp/bin/spy', before: 'ln -s /proc/self/root/shared /tmp/bin' },
  ])('$what is no program: $program', ({ program, before }) => {
    const { lines, stderr } = mounting(runtime, program, `${before}; ${MOUNT}`)
    expect(lines, stderr).toEqual(['EPERM'])
    expect(stderr).toContain(REASON)
  })

  test.each([
    { what: 'procfs', before: 'cd /proc/self/fd' },
    { what: 'a directory of procfs that is of no process', before: 'cd /proc/sys' },
    {
      what: 'a directory that has the name of a link of procfs for now',
      before: 'mount -t tmpfs none /proc && mkdir -p /proc/self/fd/7 && cd /proc/self/fd/7',
    },
  ])('$what is no working directory', ({ before }) => {
    const { lines, stderr } = mounting(runtime, '/shared/spy', `${before}; ${MOUNT}`)
    expect(lines, stderr).toEqual(['EPERM'])
    expect(stderr).toContain(REASON)
  })
})
