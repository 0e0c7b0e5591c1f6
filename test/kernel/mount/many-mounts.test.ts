import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../src/abi/fcntl.ts'
import { mountinfoEntry } from '../../../src/caller/mounts/caller-mounts.ts'
import { readProcText } from '../../../src/caller/task/same-as-init.ts'
import { openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'

const MIB = 1024 * 1024
/** Each turn doubles the mounts below the directory, whose name makes their lines long. */
const MOUNT = `mount --make-rprivate / && mount -t tmpfs none /mnt && d=/mnt/$(printf %0200d 0) && mkdir -p $d/a $d/b && mount --bind $d $d
  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mkdir -p $d/$i; mount --rbind $d $d/$i; done; echo done; exec sleep 60`

test('a task with thousands of mounts: its list is read to the end, and each mount is found', async () => {
  const child = spawn('unshare', ['--mount', 'bash', '-c', MOUNT], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  using task = openat(AT_FDCWD, cstring(`/proc/${child.pid}`), O_PATH | O_DIRECTORY)
  const text = readProcText(task, 'mountinfo')
  expect(text.length).toBeGreaterThan(MIB)
  expect(text).toBe(readFileSync(`/proc/${child.pid}/mountinfo`, 'latin1'))
  const ids = text
    .trim()
    .split('\n')
    .map((line) => Number(line.split(' ')[0]))
  for (const id of [ids[0]!, ids[1]!, ids[ids.length >> 1]!, ids.at(-1)!])
    expect(mountinfoEntry(task, id)).toMatchObject({ id })
  expect(mountinfoEntry(task, Math.max(...ids) + 1)).toBeUndefined()
  expect(mountinfoEntry(task, 0)).toBeUndefined()
})
