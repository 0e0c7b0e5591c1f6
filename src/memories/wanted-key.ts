import type { Reason, ReasonCode } from '../calls/reason.ts'
import { unpackName } from '../calls/short-name.ts'
import { keyNames } from '../policy/key-names.ts'
import { type KeyName, keys } from '../policy/keys.ts'

/** A key that would allow a refused call, and the value that it would need; for a list, the missing element. */
export interface WantedKey {
  readonly key: KeyName
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

/** Only a boolean key has a single value that turns it on. */
const turnedOn = (key: KeyName | undefined): WantedKey | undefined =>
  key !== undefined && keys[key].default === 'false' ? { key, value: 'true' } : undefined

const wanted: { readonly [Code in ReasonCode]?: (a: number, b: number) => WantedKey | undefined } = {
  keyOff: (a) => turnedOn(keyNames[a]),
  deviceNotAllowed: (a, b) => ({ key: 'mknod.devices', value: `c:${a}:${b}` }),
  fileSystemNotAllowed(a, b) {
    const name = wholeName(a, b)
    return name === undefined ? undefined : { key: 'mount.allowed', value: name }
  },
  priorityTooHigh: (a) => ({ key: 'sched_setscheduler.max_priority', value: `${a}` }),
}

/**
 * @returns undefined if no key would allow the call, whatever its value
 */
export function wantedKey({ code, a = 0, b = 0 }: Reason): WantedKey | undefined {
  const found = wanted[code]?.(a, b)
  if (!found) return undefined
  try {
    return { key: found.key, value: keys[found.key].canonical(found.value) }
  } catch {
    // No container may have it.
    return undefined
  }
}
