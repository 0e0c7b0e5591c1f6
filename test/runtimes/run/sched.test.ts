import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import { isRemoved } from '../../support/groups.ts'
import { until } from '../../support/host.ts'
import { hasRuntime, INTERCEDE, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

describe.skipIf(unable()).each(['crun', 'runc'] as const)(
  withReason('scheduling in intercede run with %s', unable()),
  (runtime) => {
    const sched = ['--runtime', runtime, '-c', 'sched_setscheduler']
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })

    test('a command starts with a real-time policy, and sees it', () => {
      const { stdout, stderr } = run([...sched, '--', 'chrt', '-r', '5', 'chrt', '-p', '0'])
      expect(stdout).toMatch(/policy: SCHED_RR\n.* priority: 5\n/)
      expect(stderr).toBe('')
    })

    test('another process gets one, up to the highest priority', () => {
      const script = 'sleep 10 & chrt -f -p 10 $! && chrt -p $!; chrt -f -p 50 $!; chrt -p $!; kill $!'
      const { stdout, stderr } = run([...sched, ...sh(script)])
      expect(stdout.match(/policy: SCHED_FIFO\n.* priority: 10\n/g)).toHaveLength(2)
      expect(stderr).toMatch('Operation not permitted')
      expect(stderr).toMatch('the priority 50 is higher than 49')
      const more = run([...sched, '-c', 'sched_setscheduler.max_priority=60', ...sh('chrt -f 50 chrt -p 0')])
      expect(more.stdout).toMatch(/SCHED_FIFO\n.* priority: 50\n/)
    })

    test('leaves setpriority(2) to the kernel, untrapped', () => {
      const nice = run([...sched, ...sh('nice -n -5 nice')])
      expect(nice).toMatchObject({ stdout: '0\n', stderr: 'nice: cannot set niceness: Permission denied\n' })
    })

    test('changes nobody outside, and nothing without the key', () => {
      const script = `chrt -f -p 10 ${process.pid}; chrt -f 10 true`
      expect(run([...sched, ...sh(`chrt -f -p 10 ${process.pid}`)]).stderr).toMatch('No such process')
      expect(run(['--runtime', runtime, ...sh(script)]).stderr).toMatch(/No such process\n.*Operation not permitted/s)
    })
  },
)

const V1 = '/sys/fs/cgroup/cpu'
const noBudget = unable() ?? (existsSync(`${V1}/cpu.rt_runtime_us`) ? undefined : 'no cgroup v1 with real-time budgets')
test.skipIf(noBudget)(
  withReason(
    'in a group of v1 without a budget the kernel gives no priority, and the engine says that it has none',
    noBudget,
  ),
  async () => {
    const group = `${V1}/intercede-test-${process.pid}`
    const script = `echo $$ >${group}/cgroup.procs && exec node "${INTERCEDE}" run -c sched_setscheduler -- chrt -f 1 true`
    mkdirSync(group)
    try {
      const { status, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', timeout: 30_000 })
      expect(status).toBe(1)
      expect(stderr).toContain('Cannot run before the tasks of containers: sched_setscheduler: EPERM')
      expect(stderr).toContain('sched_setscheduler EPERM: done as the caller: the kernel itself answered')
    } finally {
      // The guard and the engine are killed as run ends, and stay in the group until they are reaped.
      await until('the group is free', () => isRemoved(group))
    }
  },
)
