import { errnoName } from '../abi/errno.ts'
import { unpackAttribute, unpackLimit, unpackName } from '../calls/packed.ts'
import { explain, type Reason, type ReasonCode } from '../calls/reasons.ts'
import { callerOf, reasonOf, WORDS } from '../calls/record.ts'
import { spell } from '../calls/spell.ts'
import { orElse } from '../kernel/error.ts'
import { listable } from '../policy/attributes.ts'
import { delegations } from '../policy/delegations.ts'
import { GRANTED } from '../policy/devices.ts'
import { type KeyName, keyNames, keys, type PermittingKey } from '../policy/keys.ts'
import { givenHere } from '../policy/refused-devices.ts'
import type { RefusalCount } from './read-counts.ts'

/** A key that would allow a refused call, and the value that it would need; for a list, the missing element. */
export interface WantedKey {
  readonly key: PermittingKey
  readonly value: string
}

/**
 * A name that does not fit into a reason is unknown. The container has chosen the name: it must not be able to smuggle
 * further elements into a list.
 */
function wholeName(a: number, b: number): string | undefined {
  const name = unpackName(a, b).slice(1, -1)
  return /^[a-z0-9_]+$/.test(name) ? name : undefined
}

/** The same of an attribute: a name that was cut ends in dots here. */
const wholeAttribute = (a: number, b: number): string | undefined =>
  listable(/"(.*[^.])"$/.exec(unpackAttribute(a, b))?.[1] ?? '')

/** Only a boolean key has a single value that turns it on. */
const turnedOn = (key: KeyName | undefined): WantedKey | undefined =>
  key !== undefined && key !== 'mode' && keys[key].default === 'false' ? { key, value: 'true' } : undefined

const wanted: { readonly [Code in ReasonCode]?: (a: number, b: number) => WantedKey | undefined } = {
  keyOff: (a) => turnedOn(keyNames[a]),
  deviceNotAllowed: (a, b) => (givenHere(a, b) ? undefined : { key: 'mknod.devices', value: `c:${a}:${b}` }),
  notCharDevice: () => ({ key: 'mknod.devices', value: GRANTED }),
  fileSystemNotAllowed(a, b) {
    const name = wholeName(a, b)
    return name === undefined ? undefined : { key: 'mount.allowed', value: name }
  },
  attributeNotListed(a, b) {
    const name = wholeAttribute(a, b)
    return name === undefined ? undefined : { key: 'setxattr.allowed', value: name }
  },
  notDelegated(a, b) {
    const { option, names } = delegations[a] ?? {}
    const value = names?.[b]
    return option && value ? { key: `bpf.${option}`, value } : undefined
  },
  limitTooHigh: (a, b) => ({ key: 'rlimits.allowed', value: unpackLimit(a, b) }),
  niceTooLow: (a) => ({ key: 'sched_setscheduler.min_nice', value: `${a | 0}` }),
  priorityTooHigh: (a) => ({ key: 'sched_setscheduler.max_priority', value: `${a}` }),
}

/**
 * @returns undefined if no key would allow the call, whatever its value
 */
export function wantedKey({ code, a = 0, b = 0 }: Reason): WantedKey | undefined {
  const found = wanted[code]?.(a, b)
  // What no container may have has no value.
  return found && orElse(undefined, () => ({ key: found.key, value: keys[found.key].canonical(found.value) }))
}

/** A kind of refusals: how often it happened, its last call, and what to change. */
export interface RefusalView {
  readonly count: number
  readonly call: string
  readonly verdict: string
  readonly errno?: string | undefined
  readonly reason: string
  readonly says: string
  readonly remedy: string
  /** The key that would allow the call, if there is one. */
  readonly wants?: WantedKey | undefined
  /** The number, in the container, of the thread that made the last call; absent if it is not known. */
  readonly pid?: number
  /** The name of that thread, escaped as the call is; absent if the caller was not looked at. */
  readonly comm?: string
  /** When the last call was made, in milliseconds since 1970. */
  readonly time: number
  /** When the first one was made, in ISO 8601; absent if it is not known. */
  readonly first?: string
}

/** Fields that most lists do not show are computed on access: a list of containers needs only the call. */
export function refusalView({ count, first, record, args, texts }: RefusalCount): RefusalView {
  const { arch, nr, errno, reason, time, verdict } = record
  return {
    ...{ count, reason, time, verdict: WORDS[verdict] },
    ...(errno === 0 ? {} : { errno: errnoName(errno) }),
    ...(first > 0 ? { first: new Date(first).toISOString() } : {}),
    ...callerOf(record),
    get call() {
      return spell(arch, nr, { args, texts })
    },
    get says() {
      return explain(reasonOf(record)).says
    },
    get remedy() {
      return explain(reasonOf(record)).remedy
    },
    get wants() {
      return wantedKey(reasonOf(record))
    },
  }
}
