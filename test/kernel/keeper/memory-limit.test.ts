// The service at its limit of memory: the kernel ends the engine before the keeper, and no call is lost.
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { MemoryGroup, unlimitable } from '../../support/groups.ts'
import { execute, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const MB = 1024 * 1024
const LIMIT = 256 * MB
const MAKERS = 4
/** Each end of an engine. */
const ENDS = 3

const why = unlimitable()
test.skipIf(why)(
  withReason('at the limit of its memory the engine ends, the keeper serves on, and every call is done', why),
  {
    timeout: 180_000,
  },
  async () => {
    using group = new MemoryGroup(LIMIT)
    const within = ['sh', '-c', `${group.join}; exec "$@"`, 'sh']
    const daemon = await Daemon.start('', CLI, within)
    const keeper = daemon.pid
    const makers = Array.from({ length: MAKERS }, () => new Maker(daemon))
    const score = (pid: number | undefined): number => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'))
    let isOver = false
    const said: string[] = []
    // One call after the other, in each container, for as long as engines end.
    const calls = makers.map(async (maker) => {
      while (!isOver) said.push(await maker.make())
      maker.end()
    })
    try {
      expect(score(daemon.engine) - score(keeper)).toBe(100)
      await until('all make calls', () => said.length > 10 * MAKERS, 30)
      for (let end = 1; end <= ENDS; end++) {
        // Memory without a process: files that nobody can be ended for. The shell that writes them is no larger than a page.
        const file = join('/dev/shm', `intercede-ballast-${process.pid}-${end}`)
        const fill = `dd if=/dev/zero of=${file} bs=64k count=${(LIMIT / MB) * 16} 2>/dev/null; true`
        try {
          await execute('sh', ['-c', `${group.join}; echo 1000 >/proc/self/oom_score_adj; ${fill}`])
          await until(
            `the engine was ended ${end} times`,
            () => daemon.logged('the engine was ended by SIGKILL: another one takes over its calls') >= end,
            30,
          )
        } finally {
          rmSync(file, { force: true })
        }
        const before = said.length
        await until('calls are made again', () => said.length > before + 10 * MAKERS, 60)
      }
    } finally {
      isOver = true
      await Promise.all(calls)
      await daemon.close()
    }
    expect(daemon.pid).toBeUndefined()
    expect(said.filter((each) => each !== 'ok')).toEqual([])
    expect(daemon.logged('serving')).toBe(1)
    writeFileSync(2, `memory limit: ${said.length} calls, ${ENDS} ends of the engine\n`)
  },
)
