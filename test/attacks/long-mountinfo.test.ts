// A container makes its list of mounts as long as it likes: 65,000 binds of long paths are 31 MB of text, in which threads look for one
// mount, over and over for a FUSE program. When each had all of it at once, one container made the engine grow to a gigabyte.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { bundled } from '../support/bundled.ts'

const MOUNTS = 73_000

const MODULE = fileURLToPath(new URL('../../src/caller/mounts/caller-mounts.ts', import.meta.url))

/** Looks for mounts in a list, in a process whose memory is too small for the list. */
const look = (bundle: string): string => `
  const { openSync } = await import('node:fs')
  const { mountinfoEntry } = await import('${bundle}')
  const [place, ...ids] = process.argv.slice(1)
  const task = { raw: openSync(place, 'r') }
  console.log(ids.map((id) => mountinfoEntry(task, Number(id))?.point.slice(0, 8) ?? 'none').join(' '))`

test('one mount of a list of 31 MB is found by who has 16 MB', () => {
  const task = mkdtempSync(join(tmpdir(), 'intercede-mountinfo-'))
  const bundle = bundled(MODULE)
  try {
    const file = openSync(join(task, 'mountinfo'), 'w')
    for (let id = 1000; id < 1000 + MOUNTS; id++)
      writeSync(file, `${id} 22 0:5 /${'x'.repeat(190)} /p${id}${'x'.repeat(190)} rw - tmpfs none rw\n`)
    // One line may be longer than what is read at once: the kernel writes four bytes for each of a path.
    writeSync(file, `900 22 0:5 /${'\\040'.repeat(4000)} /long${'\\040'.repeat(4000)} rw - tmpfs none rw\n`)
    writeSync(file, '901 22 0:5 / /last rw - tmpfs none rw\n')
    const node = ['--max-old-space-size=16', '--input-type=module', '-e', look(bundle), task]
    const { status, stdout } = spawnSync(process.execPath, [...node, '1000', '50000', '901', '900', '7', '90'], {
      encoding: 'utf8',
    })
    expect({ status, stdout }).toEqual({ status: 0, stdout: '/p1000xx /p50000x /last /long    none none\n' })
  } finally {
    rmSync(task, { recursive: true })
    rmSync(bundle)
  }
})
