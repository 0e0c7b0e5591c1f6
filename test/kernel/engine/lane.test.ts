import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makedev } from '../../../src/abi/stat.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { Host, until } from '../../support/host.ts'
import { Hostile, withoutFuse } from '../../support/hostile.ts'
import { withReason } from '../../support/skipped.ts'
import { statFields } from '../../support/stat.ts'
import { Strace } from '../../support/strace.ts'

const MAX = 20
const HIGHER = 30
/** SCHED_OTHER and SCHED_RR, as /proc/TID/stat has them. */
const [OTHER, ROUND_ROBIN] = ['0', '2']
const [PRIORITY, POLICY] = [37, 38]

const policy = (maxPriority: number): Policy => ({
  schedSetscheduler: { maxPriority, minNice: 0, ioprio: false },
  mknod: { devices: new Set([makedev(1, 3)]) },
})

let host: Host
beforeAll(async () => {
  host = await Host.start(policy(MAX), {
    resolve: ({ id }) => ({ policy: policy(id === 'higher' ? HIGHER : MAX), details: {} }),
  })
})
afterAll(() => host?.close())

const fields = (number: number): readonly string[] =>
  readdirSync(`/proc/${host.enginePid}/task`).map(
    (tid) => statFields(`/proc/${host.enginePid}/task/${tid}/stat`)[number]!,
  )
const policies = (): readonly string[] => fields(POLICY)
const slow = (): number => policies().filter((policy) => policy === OTHER).length
const allAre = (policy: string): Promise<void> =>
  until(`all threads have policy ${policy}`, () => policies().every((each) => each === policy))

describe.skipIf(withoutFuse())(withReason('calls that hang', withoutFuse()), () => {
  test('lose the engine’s priority, and their thread gets it back', async () => {
    const hostile = new Hostile(host.directory)
    await allAre(OTHER)
    try {
      await hostile.start(host.socket, [], [fixture('stuck-calls'), '--threads', '2', join(hostile.mount, 'dir/n')])
      const count = (priority: number): number => fields(PRIORITY).filter((each) => each === `${priority}`).length
      // A thread that takes the place of one that hangs is there before it is raised.
      const allRaised = (): boolean => slow() === 2 && count(MAX + 1) === policies().length - 2
      await until('two of them hang, and all other threads are raised', allRaised)
      const raised = count(MAX + 1)
      const other = host.run(['--id', 'higher'], ['sleep', '0.5'])
      await until('they are raised once more', () => count(HIGHER + 1) >= raised)
      expect(slow()).toBe(2)
      await other
      await until('and not so far', () => count(MAX + 1) >= raised)
      expect(slow()).toBe(2)
    } finally {
      await hostile.end()
    }
    await allAre(OTHER)
  })
})

const noStrace = missing('strace')

test.skipIf(noStrace)(withReason('a call that is soon done changes no priority', noStrace), async () => {
  const output = join(host.directory, 'strace')
  const call = (name: string): string => `${fixture('caller')} mknod ${join(host.directory, name)} 020666 1 3`
  // The first call finds out the device rules, by another process.
  const script = `${call('first')}; sleep 1; ${[1, 2, 3, 4].map((each) => call(`n${each}`)).join('; ')}; sleep 0.5`
  const running = host.run([], ['sh', '-c', script])
  await until('the engine is raised', () => policies().includes(ROUND_ROBIN))
  await new Promise((resolve) => setTimeout(resolve, 500))
  await allAre(ROUND_ROBIN)
  const strace = await Strace.attach(host.enginePid, ['-e', 'trace=sched_setscheduler,ioctl,mknodat', '-o', output])
  await until('all are made', () => readFileSync(output, 'latin1').split('mknodat(').length > 4)
  await strace.end()
  expect(readFileSync(output, 'latin1')).not.toContain('sched_setscheduler')
  expect((await running).stdout).toBe('{"ok":true}\n'.repeat(5))
  await allAre(OTHER)
})
