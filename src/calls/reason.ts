import { capabilities } from '../abi/capability.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { bpf } from './reasons/bpf.ts'
import { fuse } from './reasons/fuse.ts'
import { general } from './reasons/general.ts'
import { mount } from './reasons/mount.ts'
import { node } from './reasons/node.ts'
import { path } from './reasons/path.ts'
import { sched } from './reasons/sched.ts'
import { xattr } from './reasons/xattr.ts'

/**
 * Maps the code of each reason to its sentence and remedy, and is the only place of them: the log, the end of
 * `intercede run`, metrics and docs/reasons.md read this table.
 */
export const reasons = { ...general, ...path, ...node, ...xattr, ...mount, ...fuse, ...sched, ...bpf }

export type ReasonCode = keyof typeof reasons
export interface Reason {
  readonly code: ReasonCode
  readonly a?: number
  readonly b?: number
}

/** The codes in the order of the table; a record has the index of a code. */
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Makes a reason; each call makes at least one, so its members are not spread, which would cost time. */
export function why(code: ReasonCode, a?: number, b?: number): Reason {
  if (a === undefined) return { code }
  return b === undefined ? { code, a } : { code, a, b }
}

/** Returns the sentence and the remedy of a reason, with its numbers; the remedy is empty where none is needed. */
export function explain({ code, a = 0, b = 0 }: Reason): { readonly says: string; readonly remedy: string } {
  const fill = (text: string): string =>
    text
      .replaceAll('{a:cap}', capabilities[a] ?? String(a))
      .replaceAll('{a:key}', keyNames[a] === undefined ? String(a) : fullName(keyNames[a]))
      .replaceAll('{a}', String(a))
      .replaceAll('{b}', String(b))
  const [says, remedy] = reasons[code]
  return { says: fill(says), remedy: fill(remedy) }
}
