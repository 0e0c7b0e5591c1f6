// Reads from a trace which capabilities a mounter or walker had at each call: for tests of process-caps.ts.

import { readdirSync, readFileSync } from 'node:fs'
import { type Cap, capabilities, capMask } from '../../src/abi/credentials.ts'
import type { ProcessCaps } from '../../src/processes/process-caps.ts'

/** Calls for which the kernel asks for a capability, wherever it asks; and those by which a request begins. */
const PRIVILEGED = [
  ...['mount', 'umount2', 'fsopen', 'fsconfig', 'fsmount', 'open_tree', 'move_mount', 'mount_setattr', 'pivot_root'],
  ...['setns', 'unshare', 'chroot', 'mknodat', 'setgroups', 'setresuid', 'setresgid', 'pidfd_getfd'],
]
export const TRACED = `trace=capset,execve,recvmsg,${PRIVILEGED.join(',')}`

const masksIn = (text: string): bigint => capMask(...[...text.matchAll(/CAP_(\w+)/g)].map(([, name]) => name as Cap))
export const namesOf = (mask: bigint): readonly Cap[] => capabilities.filter((cap) => (mask & capMask(cap)) !== 0n)

/** A privileged call of the main thread of a helper, or its entering another effective set. */
export interface Step {
  readonly call: string
  /** In which it was made, or which it entered. */
  readonly effective: bigint
  /** What it was asked for last. */
  readonly request: string
}

/**
 * What a helper did from when its own program was executed.
 *
 * @param trace what strace(1) has written of its main thread
 * @param executed the effective set that it began with
 */
export function stepsIn(trace: string, executed: bigint): readonly Step[] {
  const lines = trace.split('\n')
  const steps: Step[] = []
  let effective = executed
  let request = 'start'
  for (const line of lines.slice(lines.findLastIndex((each) => /^execve\(.* = 0$/.test(each)) + 1)) {
    const [, call = ''] = /^(\w+)\(/.exec(line) ?? []
    if (call === 'recvmsg') request = /\\"do\\":\\"(\w+)\\"/.exec(line)?.[1] ?? request
    if (call === 'capset') effective = masksIn(/effective=([^,]*)/.exec(line)?.[1] ?? '')
    if (call === 'capset' || PRIVILEGED.includes(call)) steps.push({ call, effective, request })
  }
  return steps
}

const SETS = ['CapInh', 'CapPrm', 'CapBnd', 'CapAmb'] as const

/**
 * How a process that rests differs from what is declared, as procfs shows each of its threads. That of the first one is empty;
 * those that Node has started before keep in their effective sets what the process is permitted.
 */
export function restDifferences(pid: number | string, { permitted }: ProcessCaps): readonly string[] {
  const most = capMask(...permitted)
  const wanted = { CapInh: 0n, CapPrm: most, CapBnd: most, CapAmb: 0n }
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'latin1')
    const setOf = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*(\\w+)`, 'm').exec(status)?.[1]}`)
    const sets = SETS.filter((name) => setOf(name) !== wanted[name]).map((name) => `${name} ${namesOf(setOf(name))}`)
    const effective = setOf('CapEff') & (tid === String(pid) ? -1n : ~most)
    return [
      ...sets,
      ...(effective === 0n ? [] : [`CapEff ${namesOf(effective)}`]),
      ...(/^NoNewPrivs:\s*1$/m.test(status) ? [] : ['NoNewPrivs 0']),
    ].map((what) => `${tid === String(pid) ? 'main' : 'other'}: ${what}`)
  })
}
