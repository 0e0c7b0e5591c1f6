import { isAbsolute, join } from 'node:path'
import * as v from 'valibot'
import { readText } from './text-file.ts'

const Capabilities = v.object({ process: v.object({ capabilities: v.object({ bounding: v.array(v.string()) }) }) })
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

/** Reads the `config.json` of a bundle. @returns undefined if there is none, or it does not match `schema` */
export function readBundle<S extends v.GenericSchema>(bundle: string, schema: S): v.InferOutput<S> | undefined {
  if (!isAbsolute(bundle)) return undefined
  try {
    return v.parse(schema, JSON.parse(readText(join(bundle, 'config.json'))))
  } catch {
    return undefined
  }
}
