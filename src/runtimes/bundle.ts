import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import * as v from 'valibot'
import { parseLxcPolicy } from '../filter/lxc.ts'
import { NOTIFY, type OciRule } from '../filter/oci.ts'
import { machines } from '../filter/target.ts'
import { orElse } from '../kernel/error.ts'
import type { Handover } from './handover.ts'
import { readText } from './text-file.ts'

const Capabilities = v.object({ process: v.object({ capabilities: v.object({ bounding: v.array(v.string()) }) }) })
const Namespaces = v.object({ linux: v.object({ namespaces: v.array(v.object({ type: v.string() })) }) })
const Flags = v.object({ linux: v.object({ seccomp: v.object({ flags: v.array(v.string()) }) }) })

/**
 * Returns the capabilities that the runtime will leave a container, such as `CAP_MKNOD`, from its bundle. The process
 * itself does not show them at the hand-over, since crun drops capabilities later.
 *
 * @returns undefined if the bundle does not say
 */
export function bundleBoundingSet(bundle: string): ReadonlySet<string> | undefined {
  const config = readBundle(bundle, Capabilities)
  return config && new Set(config.process.capabilities.bounding)
}

/**
 * Tells whether the runtime sets SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; the kernel does not show the flags of a
 * filter.
 */
export function waitsKillably(bundle: string): boolean {
  const flags = readBundle(bundle, Flags)?.linux.seccomp.flags
  return flags?.includes('SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV') === true
}

/** Tells whether the runtime gives a container a user namespace. @returns undefined if the bundle does not say */
export const givesUserns = (bundle: string): boolean | undefined =>
  readBundle(bundle, Namespaces)?.linux.namespaces.some(({ type }) => type === 'user')

/** Tells whether a bundle is there that cannot be read: whoever chooses what is in it can make it too long for us. */
export const isUnreadable = (bundle: string): boolean =>
  isAbsolute(bundle) && existsSync(join(bundle, 'config.json')) && readBundle(bundle, v.unknown()) === undefined

const DeviceRule = v.object({
  allow: v.boolean(),
  type: v.optional(v.string(), 'a'),
  major: v.nullish(v.number()),
  minor: v.nullish(v.number(), -1),
  access: v.optional(v.string(), 'rwm'),
})
const Resources = v.object({ devices: v.nullish(v.array(DeviceRule), []) })
const Devices = v.object({ linux: v.object({ resources: v.nullish(Resources, { devices: [] }) }) })

/**
 * Tells whether a device rule of a container names a block device, which it then may read and write.
 *
 * @returns undefined if the bundle does not say
 */
export const namesBlockDevice = (bundle: string, major: number, minor: number): boolean | undefined =>
  readBundle(bundle, Devices)?.linux.resources.devices.some(
    (rule) =>
      rule.allow &&
      ['a', 'b'].includes(rule.type) &&
      rule.major === major &&
      [minor, -1].includes(rule.minor) &&
      /r.*w|w.*r/.test(rule.access),
  )

/** Reads the `config.json` of a bundle. @returns undefined if there is none, or it does not match `schema` */
export function readBundle<S extends v.GenericSchema>(bundle: string, schema: S): v.InferOutput<S> | undefined {
  if (!isAbsolute(bundle)) return undefined
  return orElse(undefined, () => v.parse(schema, JSON.parse(readText(join(bundle, 'config.json')))))
}

const Rule = v.object({ names: v.array(v.string()), action: v.string() })
const Filter = v.object({ linux: v.object({ seccomp: v.object({ syscalls: v.array(Rule) }) }) })

/** Returns the names of the calls for which a filter has rules that notify. */
export const notifying = (rules: readonly Pick<OciRule, 'names' | 'action'>[]): ReadonlySet<string> =>
  new Set(rules.filter(({ action }) => action === NOTIFY).flatMap(({ names }) => names))

/**
 * Returns the calls that the filter of a container traps, under some conditions at least: from its bundle, or from its
 * policy of LXC. The kernel does not show a filter to us.
 *
 * @returns undefined if neither can be read, or if what is read has not made the listener that we were given
 */
export function trappedCalls({ bundle, lxcConfig }: Handover): ReadonlySet<string> | undefined {
  const rules = readBundle(bundle, Filter)?.linux.seccomp.syscalls ?? (lxcConfig && lxcRules(lxcConfig))
  const names = notifying(rules || [])
  return names.size > 0 ? names : undefined
}

/** Reads the policy that the configuration of a container of LXC names. */
function lxcRules({ root, file }: NonNullable<Handover['lxcConfig']>): readonly OciRule[] | undefined {
  const sections = machines[process.arch]?.sections ?? new Set<string>()
  // The container may have been started from another file, or its policy is of a kind that we do not read.
  return orElse(undefined, () => {
    const policy = policyFile(readText(`${root}${file}`))
    return policy === undefined ? undefined : parseLxcPolicy(readText(`${root}${policy}`), sections).profile.syscalls
  })
}

const ASSIGNMENT = /^\s*lxc\.(include|seccomp\.profile)\s*=\s*(.*?)\s*$/

/**
 * Returns the file that the last line about it names, as LXC takes it.
 *
 * @param config the text of the configuration of a container
 * @returns undefined if there is none, or if a file that is included after the line may name another
 */
export function policyFile(config: string): string | undefined {
  const lines = config.split('\n').map((line) => ASSIGNMENT.exec(line))
  const [, key, value] = lines.findLast((found) => found !== null) ?? []
  return key === 'seccomp.profile' && value?.startsWith('/') ? value : undefined
}
