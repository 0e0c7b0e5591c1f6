import { capabilities } from '../abi/capability.ts'
import { bpf } from './reasons/bpf.ts'
import { fuse } from './reasons/fuse.ts'
import { general } from './reasons/general.ts'
import { mount } from './reasons/mount.ts'
import { node } from './reasons/node.ts'
import { path } from './reasons/path.ts'
import { sched } from './reasons/sched.ts'
import { xattr } from './reasons/xattr.ts'

/**
 * Every verdict has a reason: a code with up to two numbers. This table is the only place of the sentences; logs, the
 * end of `intercede run`, metrics and docs/reasons.md read it.
 */
export const reasons = { ...general, ...path, ...node, ...xattr, ...mount, ...fuse, ...sched, ...bpf }

export type ReasonCode = keyof typeof reasons
export interface Reason {
  readonly code: ReasonCode
  readonly a?: number
  readonly b?: number
}

/** The codes in the order of the table; a record holds the index. */
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Every call has one, so no member is spread into it. */
export function why(code: ReasonCode, a?: number, b?: number): Reason {
  if (a === undefined) return { code }
  return b === undefined ? { code, a } : { code, a, b }
}

/** The sentence and the remedy of a reason, its numbers filled in; the remedy is empty where none is needed. */
export function explain({ code, a = 0, b = 0 }: Reason): { readonly says: string; readonly remedy: string } {
  const fill = (text: string): string =>
    text
      .replaceAll('{a:cap}', capabilities[a] ?? String(a))
      .replaceAll('{a}', String(a))
      .replaceAll('{b}', String(b))
  const [says, remedy] = reasons[code]
  return { says: fill(says), remedy: fill(remedy) }
}
