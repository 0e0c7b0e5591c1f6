import type { Dev } from '../abi/brand.ts'
import type { DeviceRules } from './device-rules.ts'

/** For so long an answer holds: device rules of a running container change rarely, and to ask costs milliseconds. */
const FRESH_MS = 10_000

interface Known {
  readonly rules: DeviceRules
  readonly until: number
}

/** One word that is never 0, so that it can be waited for. */
export const encodeRules = ({ mknod, open }: DeviceRules): number => 1 | (mknod ? 2 : 0) | (open ? 4 : 0)
export const decodeRules = (word: number): DeviceRules => ({ mknod: (word & 2) !== 0, open: (word & 4) !== 0 })

/** What one thread knows of the device rules of containers. */
export class RulesCache {
  readonly #containers = new Map<number, Map<Dev, Known>>()

  get(container: number, dev: Dev, find: () => DeviceRules): DeviceRules {
    let devices = this.#containers.get(container)
    if (!devices) {
      devices = new Map()
      this.#containers.set(container, devices)
    }
    const known = devices.get(dev)
    const now = performance.now()
    if (known && known.until > now) return known.rules
    const rules = find()
    devices.set(dev, { rules, until: now + FRESH_MS })
    return rules
  }

  forget(container: number): void {
    this.#containers.delete(container)
  }
}
