import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { crun } from '../../../../src/runtimes/known/crun.ts'
import { ociRuntimes } from '../../../../src/runtimes/known/index.ts'
import { runc } from '../../../../src/runtimes/known/runc.ts'
import { isLeftover } from '../../../../src/runtimes/launch/cgroup.ts'
import { exitStatus, findRuntime, mustHaveStarted, ownBoundingSet } from '../../../../src/runtimes/launch/runtime.ts'

const asked = { command: ['x', 'y'] }
const logged = (msg: string, level = 'error'): string => `${JSON.stringify({ level, msg, time: '' })}\n`

test.each([
  { by: crun, ended: 0, log: '', status: 0 },
  { by: crun, ended: 1, log: '', status: 1 },
  { by: crun, ended: 1, log: logged('unable to get oom kill count', 'warning'), status: 1 },
  { by: crun, ended: 7, log: logged('executable file `x` not found in $PATH'), status: 7 },
])('exitStatus($ended) of $by.name is $status after $log', ({ by, ended, log, status }) => {
  expect(exitStatus(ended, log, by, asked)).toBe(status)
})

test.each([
  { by: crun, log: logged('executable file `x` not found in $PATH: No such file or directory'), status: 127 },
  { by: runc, log: logged('runc run failed: exec: "x": executable file not found in $PATH'), status: 127 },
  { by: runc, log: logged('runc run failed: exec: "/x": stat /x: no such file or directory'), status: 127 },
  { by: crun, log: logged('the path `/etc/passwd` exists but it is not executable: EPERM'), status: 126 },
  { by: runc, log: logged('runc run failed: exec: "/etc/passwd": permission denied'), status: 126 },
])(
  'exitStatus() of $by.name says in a sentence with status $status that it cannot execute the command: $log',
  ({ by, log, status }) => {
    const says = expect.stringMatching(
      new RegExp(`^Cannot execute "x": ${by.name} says: .*; name a program that the container (has|may execute)$`),
    )
    expect(() => exitStatus(1, log, by, asked)).toThrow(expect.objectContaining({ message: says, exitCode: status }))
  },
)

test.each([
  { status: 127, ofInit: 'No such file or directory', remedy: 'name a program that the container has' },
  { status: 126, ofInit: 'Permission denied', remedy: 'name a program that the container may execute' },
])('mustHaveStarted() throws for $status and the words of the init alone', ({ status, ofInit, remedy }) => {
  expect(() => mustHaveStarted(status, ofInit, asked)).toThrow(
    expect.objectContaining({ message: `Cannot execute "x": ${ofInit}; ${remedy}`, exitCode: status }),
  )
  expect(() => mustHaveStarted(status, undefined, asked)).not.toThrow()
  expect(() => mustHaveStarted(1, ofInit, asked)).not.toThrow()
})

test('findRuntime() takes crun, or runc where there is none, or the one that is wanted', () => {
  const folder = mkdtempSync(join(tmpdir(), 'intercede-runtimes-'))
  const path = process.env.PATH
  try {
    process.env.PATH = folder
    for (const name of ['crun', 'runc']) writeFileSync(join(folder, name), '', { mode: 0o755 })
    expect(findRuntime()).toEqual({ known: crun, path: join(folder, 'crun') })
    expect(findRuntime(runc)).toEqual({ known: runc, path: join(folder, 'runc') })
  } finally {
    process.env.PATH = path
    rmSync(folder, { recursive: true })
  }
  expect(ociRuntimes.map(({ name }) => name)).toEqual(['crun', 'runc'])
})

test.each([
  { by: runc, log: 'error during container init: mkdir /nowhere: permission denied', remedy: 'name a --workdir' },
  { by: crun, log: 'chdir to `/nowhere`: No such file or directory', remedy: 'name a --workdir' },
  // Where nobody has named a directory, it is that of the shell: one of root's that was bound, for instance.
  { by: crun, log: 'chdir to `/root`: Permission denied', remedy: 'name a --workdir that the command may search' },
  { by: runc, log: 'chdir to cwd ("/root") set in config.json failed: permission denied', remedy: 'name a --workdir' },
  { by: crun, log: 'writing file `/sys/fs/cgroup/x`: Invalid argument', remedy: '"intercede doctor" says' },
])('exitStatus() of $by.name says why it did not start: $log', ({ by, log, remedy }) => {
  const says = `Cannot start the command: ${by.name} says: ${log}; ${remedy}`
  expect(() => exitStatus(1, logged(log), by, { ...asked, workdir: '/nowhere' })).toThrow(says)
})

test('boundingCapabilities() reads the mask of our own bounding set', () => {
  expect(ownBoundingSet('Name:\tx\nCapBnd:\t0000000008000001\n')).toEqual(['CHOWN', 'MKNOD'])
})

test.each([
  { name: '5-100', alive: 100, leftover: false },
  { name: '5-100', alive: 101, leftover: true },
  { name: '5-100', alive: undefined, leftover: true },
  // Of another pid namespace: pids say nothing, but its lock does.
  { name: '5-100-4026531999', alive: 100, leftover: true },
  { name: 'foreign', alive: undefined, leftover: false },
])('isLeftover($name) is $leftover where the process started at $alive', ({ name, alive, leftover }) => {
  expect(isLeftover(name, () => alive, '')).toBe(leftover)
})
