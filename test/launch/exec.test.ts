import { expect, test } from 'vitest'
import { sharedOptions } from '../../src/runtimes/exec.ts'

test.each([
  { line: 'run --bundle /b name', options: '' },
  { line: '--root /run/crun create --bundle /b --pid-file /p name', options: '--root /run/crun' },
  { line: '--root=/r --log /l --log-format=json --systemd-cgroup start name', options: '--root /r --systemd-cgroup' },
  { line: '--cgroup-manager cgroupfs --debug create name', options: '--cgroup-manager cgroupfs' },
  { line: '--root create --log run create --root /not/this', options: '--root create' },
])('sharedOptions() of $line', ({ line, options }) => {
  expect(sharedOptions(line.split(' ')).join(' ')).toBe(options)
})
