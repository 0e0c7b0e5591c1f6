import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { expect, test } from 'vitest'
import { execFor, sharedOptions } from '../../../src/runtimes/exec.ts'
import { crun } from '../../../src/runtimes/known/crun.ts'

test.each([
  { line: 'run --bundle /b name', options: '' },
  { line: '--root /run/crun create --bundle /b --pid-file /p name', options: '--root /run/crun' },
  { line: '--root=/r --log /l --log-format=json --systemd-cgroup start name', options: '--root /r --systemd-cgroup' },
  { line: '--cgroup-manager cgroupfs --debug create name', options: '--cgroup-manager cgroupfs' },
  { line: '--root create --log run create --root /not/this', options: '--root create' },
])('sharedOptions() of $line', ({ line, options }) => {
  expect(sharedOptions(line.split(' '), crun.sharedOptions).join(' ')).toBe(options)
})

test('execFor() takes what a container was started with from its bundle, which only a whole path names', () => {
  const bundle = mkdtempSync(join(tmpdir(), 'intercede-bundle-'))
  const runtime = { program: '/usr/bin/crun', options: ['--root', '/r'], env: {} }
  const handover = { id: 'c', creating: true, pid: process.pid, annotations: {}, metadata: '' }
  try {
    const spec = { env: ['PATH=/bin'], apparmorProfile: 'strict' }
    writeFileSync(join(bundle, 'config.json'), JSON.stringify({ process: { ...spec, args: ['sh'] } }))
    const exec = { ...runtime, process: spec, filters: expect.any(Number) }
    expect(execFor({ ...handover, bundle }, runtime)).toEqual(exec)
    expect(execFor({ ...handover, bundle: relative(process.cwd(), bundle) }, runtime)).toBeUndefined()
    expect(execFor({ ...handover, bundle }, undefined)).toBeUndefined()
    // Two bytes for each character: more than one message to the engine has room for.
    const env = ['A', 'B'].map((name) => `${name}=${'\u0100'.repeat(32_000)}`)
    writeFileSync(join(bundle, 'config.json'), JSON.stringify({ process: { env } }))
    expect(execFor({ ...handover, bundle }, runtime)).toBeUndefined()
  } finally {
    rmSync(bundle, { recursive: true })
  }
})
