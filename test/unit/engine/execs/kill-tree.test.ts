import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'
import { killTree } from '../../../../src/engine/execs/kill-tree.ts'
import { startTime } from '../../../../src/kernel/process.ts'

test('a process is killed with what it has started, and what that has', async () => {
  const child = spawn('sh', ['-c', "sh -c 'sleep 1000 & echo $! $$; wait' & wait"], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const said = await new Promise<Buffer>((resolve) => child.stdout.once('data', resolve))
  const others = said.toString().trim().split(' ').map(Number)
  expect(others.map((pid) => startTime(pid) !== undefined)).toEqual([true, true])
  const closed = new Promise((resolve) => child.once('close', resolve))
  killTree(child.pid!)
  // All of them hold the pipe.
  await closed
  expect(child.signalCode).toBe('SIGKILL')
})
