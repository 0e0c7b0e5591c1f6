// A container freezes its groups while a process begins there that tries their device rules: whoever starts that process
// waits for it (linux/kernel/fork.c wait_for_vfork_done()), and others must not wait along.
import { chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE, Host } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const why = withoutCgroups()
const GROUPS = 40

describe.skipIf(why)(withReason('a container whose groups freeze and thaw all the time', why), () => {
  let host: Host
  let home: Group
  let isOver = false
  let toggling: Promise<void> | undefined
  beforeAll(async () => {
    host = await Host.start()
    home = new Group().delegate()
  })
  afterAll(async () => {
    isOver = true
    await toggling
    writeFileSync(`${home.path}/cgroup.freeze`, '0')
    writeFileSync(`${home.path}/cgroup.kill`, '1')
    await home.remove()
    host.close()
  })

  const freezing = async (): Promise<void> => {
    while (!isOver) {
      writeFileSync(`${home.path}/cgroup.freeze`, '1')
      await sleep(3)
      writeFileSync(`${home.path}/cgroup.freeze`, '0')
      await sleep(3)
    }
  }

  test('gets its answers, and others get theirs meanwhile', { timeout: 60_000 }, async () => {
    const nested = Array.from({ length: GROUPS }, (_, index) => {
      const path = home.below(`g${index}`)
      chownSync(`${path}/cgroup.procs`, BASE, BASE)
      return path
    })
    const making = (name: string): string => `${fixture('caller')} mknod ${join(host.directory, name)} 020666 1 3`
    const calls = nested.map((group, index) => `echo 0 >${group}/cgroup.procs; ${making(`a${index}`)}`)
    toggling = freezing()
    const hostile = host.run(['--cgroup', home.path], ['sh', '-c', calls.join('\n')])
    const times: number[] = []
    for (let round = 0; round < 20; round++) {
      const started = performance.now()
      expect((await host.run([], ['sh', '-c', making(`b${round}`)])).stdout).toBe('{"ok":true}\n')
      times.push(performance.now() - started)
    }
    console.log(`others: ${times.map(Math.round).sort((a, b) => a - b)} ms`)
    expect(Math.max(...times)).toBeLessThan(5000)
    expect((await hostile).stdout).toBe('{"ok":true}\n'.repeat(GROUPS))
    expect(host.footprint.engineThreads).toBeLessThan(40)
  })
})
