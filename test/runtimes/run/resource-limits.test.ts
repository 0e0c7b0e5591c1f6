import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { type Ended, run, sh, unable } from '../../support/run-machine.ts'
import { cannotRaiseLimits, withReason } from '../../support/skipped.ts'

const KEYS = ['rlimits', 'rlimits.allowed=nofile=1048576,memlock=2G']
const inside = (keys: readonly string[], script: string): Ended =>
  run([...keys.flatMap((key) => ['-c', key]), ...sh(script)])

/** Of the host's init and of this process, on which no container may have an effect. */
const limitsOfOthers = (): readonly string[] =>
  ['1', 'self'].map((pid) => readFileSync(`/proc/${pid}/limits`, 'latin1'))

/** As Vault does at its start, without CAP_IPC_LOCK in the host: all memory is locked. */
const LOCKS = `python3 -c "
import ctypes, resource
resource.setrlimit(resource.RLIMIT_MEMLOCK, (2 << 30, 2 << 30))
libc = ctypes.CDLL(None, use_errno=True)
if libc.mlockall(3): raise OSError(ctypes.get_errno(), 'mlockall')
print(*(line for line in open('/proc/self/status') if line.startswith('VmLck')), end='')
"`
const FILES = 'ulimit -n 1000; ulimit -n 1048576 && ulimit -n'

const absent = unable() ?? missing('python3') ?? cannotRaiseLimits
describe.skipIf(absent)(withReason('limits in intercede run', absent), () => {
  test('a server raises its number of open files; without the key it cannot', () => {
    const before = limitsOfOthers()
    expect(inside(KEYS, FILES)).toMatchObject({ status: 0, stdout: '1048576\n', stderr: '' })
    expect(inside([], FILES)).toMatchObject({ status: 2, stdout: '' })
    expect(limitsOfOthers()).toEqual(before)
  })

  test('a program locks all its memory; without the key it cannot', () => {
    expect(inside(KEYS, LOCKS).stdout).toMatch(/^VmLck:\s+[1-9]\d{3,} kB\n$/)
    expect(inside([], LOCKS).stderr).toMatch('not allowed to raise maximum limit')
  })
})

const noCyclictest = absent ?? missing('cyclictest')
test.skipIf(noCyclictest)(
  withReason(
    'cyclictest locks its memory and gets a real-time priority; without rlimits it says that it cannot lock',
    noCyclictest,
  ),
  () => {
    const script =
      'ulimit -l 64; prlimit --pid $$ --memlock=2147483648; cyclictest --mlockall --priority=10 --loops=10 --quiet'
    const { status, stdout, stderr } = inside([...KEYS, 'sched_setscheduler'], script)
    expect(status, stderr).toBe(0)
    expect(stdout).toMatch(/P:10 .* C: +10 /)
    expect(inside(['sched_setscheduler'], script).stderr).toContain('mlockall')
  },
)

test.skipIf(unable() || !cannotRaiseLimits)(
  withReason(
    'where root cannot raise limits, the run says so',
    unable() ?? (cannotRaiseLimits ? undefined : 'here it can'),
  ),
  () => {
    const { status, stderr } = inside(KEYS, 'ulimit -n 1048576')
    expect(status).not.toBe(0)
    expect(stderr).toContain(
      'left to the kernel: intercede itself lacks CAP_SYS_RESOURCE; run intercede where root has',
    )
  },
)
