import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'

const Config = v.object({ process: v.object({ capabilities: v.object({ bounding: v.array(v.string()) }) }) })

/**
 * The capabilities that the runtime will leave a container, such as `CAP_MKNOD`, by its bundle. The process itself does not
 * tell at the hand-over: crun drops them only later.
 *
 * @returns undefined if the bundle does not say
 */
export function boundingCapabilities(bundle: string): ReadonlySet<string> | undefined {
  try {
    const config = v.parse(Config, JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')))
    return new Set(config.process.capabilities.bounding)
  } catch {
    return undefined
  }
}
