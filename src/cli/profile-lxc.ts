import { resolve } from 'node:path'
import type { Rule } from '../calls/rule.ts'
import { compileLxc, type LxcPolicy, parseLxcPolicy } from '../filter/lxc.ts'
import { NOTIFY } from '../filter/oci.ts'
import { machines } from '../filter/target.ts'
import { readText } from '../runtimes/text-file.ts'
import { LXC_SOCKET } from './sockets.ts'

export interface LxcOptions {
  readonly rules: readonly Rule[]
  /** The lines of the metadata: the policy. */
  readonly metadata: readonly string[]
  readonly base?: string | undefined
  readonly listener?: string | undefined
  readonly output?: string | undefined
}

/** Makes the policy file for LXC, and the lines of the container's configuration that name the file. */
export function profileForLxc({ rules, metadata, base, listener = LXC_SOCKET, output }: LxcOptions): {
  readonly text: string
  readonly configuration: string
} {
  const configuration = [
    `lxc.seccomp.profile = ${output === undefined ? 'THIS FILE' : resolve(output)}`,
    `lxc.seccomp.notify.proxy = unix:${listener}`,
    // A value of LXC's configuration cannot hold a line break: see runtimes/lxc.ts.
    `lxc.seccomp.notify.cookie = ${metadata.join(';')}`,
  ]
  const comments = output === undefined ? ['In the configuration of the container:', ...configuration] : []
  const text = compileLxc(rules, base === undefined ? undefined : readBase(base), comments)
  return { text, configuration: `${configuration.join('\n')}\n` }
}

function readBase(file: string): LxcPolicy {
  const refuse = (why: string): Error => new Error(`Cannot use the base profile ${JSON.stringify(file)}: ${why}`)
  let policy: LxcPolicy
  try {
    policy = parseLxcPolicy(readText(file, { pipes: true }), machines[process.arch]?.sections ?? new Set())
  } catch (error) {
    const { message } = error as Error
    throw refuse(message.includes('; ') ? message : `${message}; name a policy as LXC has them`)
  }
  const { defaultAction, syscalls = [] } = policy.profile
  if ([defaultAction, ...syscalls.map(({ action }) => action)].includes(NOTIFY))
    throw refuse('it has notify rules of its own, for another proxy, and a container has one; name one without them')
  return policy
}
