import { capabilities } from '../abi/capability.ts'
import { fullName } from '../policy/key.ts'
import { keyNames } from '../policy/key-names.ts'
import { reasons } from './reasons.ts'
import { unpackName } from './short-name.ts'

export type ReasonCode = keyof typeof reasons
export interface Reason {
  readonly code: ReasonCode
  readonly a?: number
  readonly b?: number
  /** The text of the policy for which `a` stands, where the reader knows the policy. */
  readonly named?: string | undefined
}

/** The codes in the order of the table; a record has the index of a code. */
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Makes a reason; each call makes at least one, so its members are not spread, which would cost time. */
export function why(code: ReasonCode, a?: number, b?: number): Reason {
  if (a === undefined) return { code }
  return b === undefined ? { code, a } : { code, a, b }
}

/** Returns the sentence and the remedy of a reason, with its numbers; the remedy is empty where none is needed. */
export function explain({ code, a = 0, b = 0, named }: Reason): { readonly says: string; readonly remedy: string } {
  const places: Readonly<Record<string, () => string>> = {
    a: () => String(a),
    b: () => String(b),
    'a:cap': () => capabilities[a] ?? String(a),
    'a:key': () => (keyNames[a] === undefined ? String(a) : fullName(keyNames[a])),
    'a:name': () => unpackName(a, b),
    'a:program': () => (named === undefined ? `number ${a}` : JSON.stringify(named)),
  }
  // One pass: a name of a container that looks like a place stays as it is.
  const fill = (text: string): string => text.replaceAll(/\{([a-z:]+)\}/g, (whole, place) => places[place]?.() ?? whole)
  const [says, remedy] = reasons[code]
  return { says: fill(says), remedy: fill(remedy) }
}
