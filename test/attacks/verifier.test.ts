// A container without sched_setscheduler lets the engine verify programs at the priority that the engine has because of another
// container; linux/kernel/sched/rt.c: a real-time task is left a processor before all usual ones.
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BPF } from '../../src/abi/bpf.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { Caller, Group, insn, loading, MOV, RETURN, withoutCgroups } from '../support/bpf-world.ts'
import { fixture } from '../support/fixtures.ts'
import { devicePrograms, execute, Host, USERNS, until } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'
import { statFields } from '../support/stat.ts'

const why = withoutCgroups()
const MAX = 49
const COUNT_MS = 4000
/** What a usual process gets beside the loads with the other container, of what it gets without: all of it is meant. */
const RATIO = 0.5
const POLICIES: Readonly<Record<string, Policy>> = {
  idle: { schedSetscheduler: { maxPriority: MAX, minNice: 0, ioprio: false } },
  loads: { bpf: devicePrograms },
}
/** SCHED_OTHER and SCHED_RR, as /proc/TID/stat has them. */
const [OTHER, ROUND_ROBIN] = ['0', '2']
const [STIME, POLICY] = [12, 38]

/** Branches that the verifier cannot join: it gives up after a million instructions (kernel/bpf/verifier.c do_check()). */
function costly(): Buffer {
  const branch = (bit: number): Buffer[] => [
    insn(0x61, { dst: 2, src: 1, off: 4 }),
    insn(0x55, { dst: 2, off: 1, imm: 7 }),
    insn(0x07, { dst: 0, imm: 1 << bit }),
  ]
  const branches = Array.from({ length: 30 }, (_, bit) => branch(bit)).flat()
  return Buffer.concat([insn(MOV), ...branches, insn(0x57, { dst: 0, imm: 1 }), insn(RETURN)])
}

describe.skipIf(why)(withReason('loads that take long', why), () => {
  let host: Host
  let group: Group
  let loader: Caller
  let idle: ChildProcess | undefined
  let loads = 0
  let isOver = false
  let loops: Promise<void>

  beforeAll(async () => {
    host = await Host.start(POLICIES.loads, {
      resolve: ({ id }) => ({ policy: POLICIES[id] ?? POLICIES.loads!, details: {} }),
    })
    group = new Group()
    loader = Caller.contained(host, group.path, { options: ['--id', 'loads'] })
    loops = loadOn()
    await until('it loads', () => loads > 1)
  })
  afterAll(async () => {
    await pause()
    await loader?.close()
    host?.close()
    await group?.remove()
  })

  async function loadOn(): Promise<void> {
    for (; !isOver; loads++) {
      const { result } = await loader.bpf(BPF.PROG_LOAD, loading(costly()))
      if (result !== 'E2BIG') throw new Error(`The verifier says ${result}`)
    }
  }

  async function pause(): Promise<void> {
    isOver = true
    await loops
  }

  async function begin(): Promise<void> {
    const options = [host.socket, '--userns', USERNS, '--id', 'idle', '--await-agent']
    idle = spawn(fixture('filtered'), [...options, '--', 'sleep', '100'], { stdio: 'ignore' })
    await until('the engine is raised', () => threads().some(({ policy }) => policy === ROUND_ROBIN))
  }

  async function end(): Promise<void> {
    idle?.kill('SIGTERM')
    await until('the engine is as usual', () => threads().every(({ policy }) => policy === OTHER))
  }

  /** Of the engine's threads: the policy of each, and how long it has run, most of it in the kernel. */
  function threads(): readonly { readonly tid: string; readonly policy: string; readonly ticks: number }[] {
    return readdirSync(`/proc/${host.enginePid}/task`).map((tid) => {
      const fields = statFields(`/proc/${host.enginePid}/task/${tid}/stat`)
      return { tid, policy: fields[POLICY]!, ticks: Number(fields[STIME]) }
    })
  }

  async function worked(cpu: string): Promise<number> {
    const count = ['--cpu-list', cpu, fixture('spinners'), '--count', `${COUNT_MS}`]
    const { stdout } = await execute('taskset', count)
    return (JSON.parse(stdout) as { workedMs: number }).workedMs
  }

  test('a usual process has as much of a processor beside them, whether another container may give priorities or not', async () => {
    // Both on one processor, so that what else this machine does goes on.
    const cpu = `${availableParallelism() - 1}`
    await execute('taskset', ['--all-tasks', '--cpu-list', '--pid', cpu, `${host.enginePid}`])
    const before = loads
    const without = await worked(cpu)
    await begin()
    const beside = await worked(cpu)
    await end()
    const usual = await worked(cpu)
    console.log(`of ${COUNT_MS} ms it had ${without}, then ${beside}, then ${usual}; ${loads - before} loads`)
    expect(loads - before).toBeGreaterThan(0)
    expect(beside).toBeGreaterThan(RATIO * Math.min(without, usual))
  })

  test('only the thread that loads has the usual policy, and no longer than that', async () => {
    await begin()
    const ticks: Record<string, number> = {}
    let before = threads()
    for (const from = loads; loads < from + 2; ) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      const after = threads()
      for (const { tid, policy, ticks: spent } of after) {
        const had = before.find((thread) => thread.tid === tid)
        ticks[policy] = (ticks[policy] ?? 0) + spent - (had?.ticks ?? spent)
      }
      before = after
    }
    console.log('ticks by policy', ticks)
    expect(ticks[OTHER]).toBeGreaterThan(50)
    expect(ticks[ROUND_ROBIN] ?? 0).toBeLessThan(ticks[OTHER]! / 5)
    expect(threads().filter(({ policy }) => policy !== ROUND_ROBIN).length).toBeLessThanOrEqual(1)
    await pause()
    await until('all are raised', () => threads().every(({ policy }) => policy === ROUND_ROBIN))
    await end()
  })
})
