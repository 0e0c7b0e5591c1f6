import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { AT_FDCWD } from '../../../src/abi/fcntl.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { currentTid, isRunning, parentIn, startIn, startTime, stateIn } from '../../../src/kernel/process.ts'
import { until } from '../../support/host.ts'

/** What it is called while it sleeps would be told as its state, its parent and more by whoever looks for the first parenthesis. */
const NAME = ') R 1 (2) 3 4 5'

test('the fields of /proc/PID/stat are found behind whatever a process is called', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'intercede-stat-'))
  copyFileSync(realpathSync('/bin/sleep'), join(directory, NAME))
  // What the shell says of itself holds on: exec changes neither the parent nor the start.
  const child = spawn('sh', ['-c', 'cat /proc/$$/stat; exec "$0" 100', join(directory, NAME)])
  try {
    const [said] = await once(child.stdout.setEncoding('latin1'), 'data')
    const path = cstring(`/proc/${child.pid}/stat`)
    await until('it has its name', () => readFileSync(`/proc/${child.pid}/comm`, 'latin1') === `${NAME}\n`)
    await until('it sleeps', () => stateIn(AT_FDCWD, path) === 'S')
    const fields = (said as string).split(' ')
    expect(parentIn(AT_FDCWD, path)).toBe(process.pid)
    expect(startIn(AT_FDCWD, path)).toBe(Number(fields[21]))
    expect(startTime(child.pid!)).toBe(Number(fields[21]))
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
    rmSync(directory, { recursive: true })
  }
})

test('a process that is gone has no state and no time of start', async () => {
  const child = spawn('true')
  await once(child, 'exit')
  const path = cstring(`/proc/${child.pid}/stat`)
  expect(stateIn(AT_FDCWD, path)).toBe('')
  expect(startTime(child.pid!)).toBeUndefined()
  expect(() => startIn(AT_FDCWD, path)).toThrow('ENOENT')
})

test('the state of the thread that asks is running', () => {
  expect(isRunning(currentTid())).toBe(true)
})
