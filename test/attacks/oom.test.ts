// The kernel's OOM killer ends whoever shares memory with what it kills (linux/mm/oom_kill.c __oom_kill_process()): so nobody
// in a control group of a container may share the engine's memory, not even between clone(2) and execve(2).
import { type ChildProcess, spawn } from 'node:child_process'
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
const ROUNDS = 8
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

describe.skipIf(why)(withReason('a container whose group has no memory left', why), { timeout: 300_000 }, () => {
  let allocating: ChildProcess | undefined
  afterEach(() => allocating?.kill('SIGKILL'))

  test.each(['0', '1'])('does not take the engine with it, with memory.oom.group=%s', async (whole) => {
    for (const path of ['/sys/fs/cgroup', home.path]) writeFileSync(`${path}/cgroup.subtree_control`, '+memory +cpu')
    const [own, limited] = [home.below('own'), home.below('limited')]
    const set = (name: string, value: string): void => writeFileSync(`${limited}/${name}`, value)
    set('memory.max', `${24 * 1024 * 1024}`)
    set('memory.oom.group', whole)
    // Whoever begins there runs for 20 ms of 100 at most, so that a moment lasts long enough.
    set('cpu.max', '20000 100000')
    chownSync(`${limited}/cgroup.procs`, BASE, BASE)
    const grow = `x=a; while :; do x=$x$x; done`
    const script = `while :; do (echo 0 >${limited}/cgroup.procs; ${grow}); done`
    allocating = spawn('sh', ['-c', script], { stdio: 'ignore' })
    const engine = host.enginePid
    const killed = (): number => Number(/oom_kill (\d+)/.exec(readFileSync(`${limited}/memory.events`, 'latin1'))![1])
    for (let round = 0; round < ROUNDS; round++) {
      const call = callIn(limited, join(host.directory, `m${round}`))
      await host.run(['--cgroup', own, '--id', `poor${round}`], ['sh', '-c', `${call}; true`])
      expect(host.enginePid).toBe(engine)
    }
    expect(killed()).toBeGreaterThan(0)
    allocating.kill('SIGKILL')
    const { stdout } = await host.run([], ['sh', '-c', `${MAKE} ${join(host.directory, 'other')} 020666 1 3`])
    expect(stdout).toBe('{"ok":true}\n')
    expect(host.enginePid).toBe(engine)
  })
})
