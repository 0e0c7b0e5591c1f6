import type { Dev } from '../abi/brand.ts'
import { harmless, written } from './devices.ts'
import { type Place, PolicyError } from './error.ts'
import type { KeyValueLine } from './key-value-lines.ts'
import { fullName, type KeyName, keyNames, keys, toKeyName, type Value } from './keys.ts'
import type { Policy } from './policy.ts'
import { type DeviceNames, givenByName } from './refused-devices.ts'

/** One effective value in its canonical text, and who gave it: "default", "metadata", "profile build", ... */
export interface Setting {
  readonly text: string
  readonly origin: string
}

/** Every key of the table with its effective value: what a log line shows, and what a policy is made from. */
export type Settings = ReadonlyMap<KeyName, Setting>

export const defaults: Settings = new Map(
  keyNames.map((name) => [name, { text: keys[name].default, origin: 'default' }]),
)

/** @throws {PolicyError} naming the key, the value, what is allowed and the line */
function canonical(name: KeyName, value: string, place?: Place): string {
  try {
    return keys[name].canonical(value)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const hint = `: ${error.message}, allowed is ${keys[name].allowed}`
    throw new PolicyError(`${fullName(name)} is ${JSON.stringify(value)}`, place, hint)
  }
}

/** Lays entries over settings: later ones override earlier ones. */
export function settle(entries: Iterable<KeyValueLine>, base: Settings = defaults): Settings {
  const settings = new Map(base)
  for (const [key, value, origin = 'given', place] of entries) {
    const name = toKeyName(key, place)
    settings.set(name, { text: canonical(name, value, place), origin })
  }
  return settings
}

/** @throws {PolicyError} if a file system is in both lists: it would be unclear who mounts it */
function mount(get: <K extends KeyName>(name: K) => Value<K>): NonNullable<Policy['mount']> {
  const [allowed, fuse] = [get('mount.allowed'), get('mount.fuse')]
  const both = [...fuse.keys()].find((name) => allowed.has(name))
  if (both !== undefined) {
    const lists = `${fullName('mount.allowed')} and ${fullName('mount.fuse')}`
    throw new PolicyError(`the file system ${JSON.stringify(both)} is in both ${lists}, allowed is one of them`)
  }
  return { allowed, fuse, shift: get('mount.shift'), nodev: get('mount.nodev') }
}

/** @throws {PolicyError} if one is refused by the name that its number has now */
function devices(listed: ReadonlySet<Dev>, named: DeviceNames): readonly Dev[] {
  for (const dev of listed) {
    const found = givenByName(dev, named)
    if (!found) continue
    const { name, gives } = found
    throw new PolicyError(
      `${fullName('mknod.devices')} has ${written(dev)}, which is ${JSON.stringify(name)} on this host: it would give the container ${gives}`,
    )
  }
  return [...harmless, ...listed]
}

const NOBODY: DeviceNames = () => []

/**
 * Makes the policy that settings mean. The lists of mount and mknod are checked even while those are off, so that turning them
 * on later cannot fail.
 *
 * @param named what the numbers of devices mean on this host now, where that matters
 * @throws {PolicyError} if keys contradict each other, or a listed device is one that no container may have
 */
export function toPolicy(settings: Settings, named: DeviceNames = NOBODY): Policy {
  const get = <K extends KeyName>(name: K) => keys[name].parse(settings.get(name)!.text) as Value<K>
  const mounts = mount(get)
  const nodes = devices(get('mknod.devices'), named)
  return {
    ...(get('mknod') && { mknod: { devices: new Set(nodes) } }),
    ...(get('mount') && { mount: mounts }),
    ...(get('bpf') && { bpf: { devices: get('bpf.devices') } }),
    ...(get('sched_setscheduler') && {
      schedSetscheduler: { maxPriority: get('sched_setscheduler.max_priority') },
    }),
    ...(get('setxattr') && { setxattr: { read: get('setxattr.read') } }),
    ...(get('sysinfo') && { sysinfo: {} }),
  }
}

/** @throws {PolicyError} for an unknown key, a bad value or a contradiction */
export const parsePolicy = (entries: Iterable<KeyValueLine>, named?: DeviceNames): Policy =>
  toPolicy(settle(entries), named)

/** Every key in full with its effective value and where that came from, for the log line of a container. */
export const effective = (settings: Settings): readonly (Setting & { readonly key: string })[] =>
  [...settings].map(([name, setting]) => ({ key: fullName(name), ...setting }))
