// The kernel's OOM killer ends whoever shares memory with what it kills (linux/mm/oom_kill.c __oom_kill_process()): so nobody
// in a control group of a container may share the engine's memory, not even between clone(2) and execve(2).
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Group, withoutCgroups } from '../support/bpf-world.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, Host } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'
import { Strace } from '../support/strace.ts'

const GROUPS = 8
/** In a guest without hardware help a round takes several seconds. */
const ROUNDS = 4
const MAKE = `${fixture('caller')} mknod`

let host: Host
let home: Group
beforeEach(async () => {
  host = await Host.start()
  home = new Group().delegate()
})
afterEach(async () => {
  writeFileSync(`${home.path}/cgroup.kill`, '1')
  await home.remove()
  host.close()
})

/** A group of the container, in which a call asks for device rules that nobody knows yet. */
function fresh(name: string): string {
  const group = home.below(name)
  chownSync(`${group}/cgroup.procs`, BASE, BASE)
  return group
}
const callIn = (group: string, path: string): string =>
  `(echo 0 >${group}/cgroup.procs; exec ${MAKE} ${path} 020666 1 3)`

const noStrace = withoutCgroups() ?? missing('gcc') ?? missing('strace')

describe.skipIf(noStrace)(withReason('the probe of device rules', noStrace), () => {
  test('joins the groups of a container after it has executed its program, and nobody begins there', async () => {
    const output = join(host.directory, 'strace')
    const trace = 'trace=clone,clone3,fork,vfork,execve,write'
    const strace = await Strace.attach(host.enginePid, ['-y', '-e', trace, '-o', output])
    const calls = Array.from({ length: GROUPS }, (_, index) =>
      callIn(fresh(`g${index}`), join(host.directory, `n${index}`)),
    )
    const { stdout } = await host.run(['--cgroup', home.path], ['sh', '-c', calls.join('\n')])
    await strace.end()
    expect(stdout).toBe('{"ok":true}\n'.repeat(GROUPS))
    const lines = readFileSync(output, 'latin1').split('\n')
    expect(lines.filter((line) => line.includes('CLONE_INTO_CGROUP'))).toEqual([])
    const joins = lines.flatMap((line, at) =>
      / write\(1<.*\/g\d\/cgroup\.procs>, "0/.test(line) ? [{ line, at }] : [],
    )
    expect(joins).toHaveLength(GROUPS)
    for (const { line, at } of joins) {
      const [pid] = line.split(' ')
      const executed = lines.findLastIndex((each) => each.startsWith(`${pid} `) && / execve\(".*\/sh",/.test(each))
      expect(executed, line).toBeGreaterThanOrEqual(0)
      expect(executed, line).toBeLessThan(at)
    }
  })
})

/** The root of the hierarchies, as on most hosts; where the memory controller is one of v1 nobody begins in its groups. */
const CONTROLLERS = '/sys/fs/cgroup/cgroup.controllers'
const isUnified = existsSync(CONTROLLERS) && / ?memory\b/.test(readFileSync(CONTROLLERS, 'latin1'))
const why = withoutCgroups() ?? missing('gcc') ?? (isUnified ? undefined : 'memory is no controller of cgroup v2 here')

/** Becomes a member of a group, and then a program or a loop. */
const member = (group: string, then: string): ChildProcess =>
  spawn('sh', ['-c', `echo 0 >${group}/cgroup.procs; ${then}`], { stdio: 'ignore' })

describe.skipIf(why)(withReason('a container whose group has no memory left', why), { timeout: 300_000 }, () => {
  test.each(['0', '1'])('does not take the engine with it, with memory.oom.group=%s', async (whole) => {
    for (const path of ['/sys/fs/cgroup', home.path]) writeFileSync(`${path}/cgroup.subtree_control`, '+memory +cpu')
    const [own, limited] = [home.below('own'), home.below('limited')]
    writeFileSync(`${limited}/memory.max`, `${12 * 1024 * 1024}`)
    writeFileSync(`${limited}/memory.oom.group`, whole)
    writeFileSync(`${limited}/cgroup.subtree_control`, '+cpu')
    const killed = (): number => Number(/oom_kill (\d+)/.exec(readFileSync(`${limited}/memory.events`, 'latin1'))![1])
    const engine = host.enginePid
    for (let round = 0; round < ROUNDS; round++) {
      const [slow, fast] = [fresh(`limited/slow${round}`), fresh(`limited/fast${round}`)]
      // Three share a fiftieth of a processor, so what begins there needs a second before it executes anything.
      writeFileSync(`${slow}/cpu.max`, '2000 100000')
      for (let spinner = 0; spinner < 2; spinner++) member(slow, 'while :; do :; done')
      const count = `n=0; while read -r each; do n=$((n + 1)); done <${slow}/cgroup.procs`
      // As soon as there is a fourth process, which the engine has started, memory ends.
      const grows = member(fast, `while :; do ${count}; [ $n -lt 4 ] || exec tail /dev/zero; done`)
      const ended = once(grows, 'exit')
      const before = killed()
      const called = host.run(
        ['--cgroup', own],
        ['sh', '-c', `${callIn(slow, join(host.directory, `m${round}`))}; true`],
      )
      await ended
      expect(killed()).toBeGreaterThan(before)
      writeFileSync(`${limited}/cgroup.kill`, '1')
      await called
      expect(host.maybeEnginePid).toBe(engine)
    }
    const { stdout } = await host.run([], ['sh', '-c', `${MAKE} ${join(host.directory, 'other')} 020666 1 3`])
    expect(stdout).toBe('{"ok":true}\n')
    expect(host.enginePid).toBe(engine)
  })
})
