import type { Cap } from '../abi/credentials.ts'
import { briefly, didYouMean } from '../shared/texts.ts'
import { numbersOf, written } from './devices.ts'
import { callOf, calls, type KeyName, keys } from './keys.ts'
import { type Policy, serves } from './policy.ts'
import { type DeviceNames, isUnclaimed } from './refused-devices.ts'
import type { Settings } from './settings.ts'

const isSet = (settings: Settings, key: KeyName): boolean => !['', 'false'].includes(settings.get(key)?.text ?? '')

/**
 * Returns the options of which a call needs one; an option, and a call that does something without options, has none.
 */
export const essentialTo = (name: KeyName): readonly KeyName[] =>
  calls
    .filter((call) => call.name === name)
    .flatMap(({ options }) => options.filter(({ key }) => key.essential).map((option) => option.name))

/** Says of each key that was given and does nothing what is missing. @param isMeant selects among the given keys */
export function ineffectiveKeys(
  settings: Settings,
  isMeant: (key: KeyName) => boolean = () => true,
): readonly string[] {
  const isGiven = (key: KeyName): boolean => settings.get(key)!.origin.kind !== 'default' && isSet(settings, key)
  const given = [...settings.keys()].filter((key) => isGiven(key) && isMeant(key))
  return given.flatMap((key) => {
    const call = callOf(key)
    if (call === undefined) return []
    if (!isSet(settings, call)) return [`${key} does nothing without ${call}=true`]
    const oneOf = essentialTo(key)
    if (oneOf.length === 0 || oneOf.some((other) => isSet(settings, other))) return []
    return [`${key} does nothing without ${oneOf.join(' or ')}`]
  })
}

/** Lists names of `mount.allowed` that the kernel does not know, each with its remedy: a module may be loaded later. */
export function unknownFileSystems(settings: Settings, known: () => ReadonlySet<string>): readonly string[] {
  const allowed = [...keys['mount.allowed'].parse(settings.get('mount.allowed')?.text ?? '')]
  if (allowed.length === 0) return []
  const names = known()
  if (names.size === 0) return []
  return allowed
    .filter((name) => !names.has(driverOf(name)))
    .map(
      (name) =>
        `mount.allowed: this kernel does not know the file system ${briefly(name)}${didYouMean(name, names)}; ` +
        `/proc/filesystems has those that it knows, and more come with modules`,
    )
}

/** A subtype, as in fuseblk.ntfs, is the same driver; linux/fs/filesystems.c get_fs_type() */
const driverOf = (name: string): string => name.split('.')[0]!

/** Numbers of `mknod.devices` that nobody has now and any driver may get, each with what to do. */
export const unclaimedDevices = (settings: Settings, named: DeviceNames): readonly string[] =>
  numbersOf(keys['mknod.devices'].parse(settings.get('mknod.devices')?.text ?? ''))
    .filter((dev) => isUnclaimed(dev, named))
    .map(
      (dev) =>
        `mknod.devices: no driver has ${written(dev)} now, and the kernel may give it to any that is loaded later; ` +
        'load the driver that you mean first',
    )

/**
 * Returns for each call and option that takes capabilities the sets of which a container must hold one; the usual set
 * is the first.
 */
export const capabilitySets = (policy: Policy): readonly (readonly (readonly Cap[])[])[] =>
  calls
    .filter(({ member }) => member in policy)
    .flatMap(({ key, options }) => [
      key,
      ...options.filter(({ name }) => serves(policy, name)).map((option) => option.key),
    ])
    .flatMap(({ capabilities = [] }) => (capabilities.length > 0 ? [capabilities] : []))

/** Returns the capabilities to give a container for a policy. */
export const capabilitiesFor = (policy: Policy): readonly Cap[] => [
  ...new Set(capabilitySets(policy).flatMap(([usual = []]) => usual)),
]
