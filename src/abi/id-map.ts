/** One line of `/proc/PID/uid_map` or `gid_map`, read from our own user namespace. */
export interface IdExtent {
  readonly inside: number
  readonly outside: number
  readonly count: number
}

/** What shows for an id that a mount or a namespace does not map. */
export const OVERFLOW_ID = 65534

/** @see user_namespaces(7) */
export function parseIdMap(text: string): readonly IdExtent[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      return { inside, outside, count }
    })
}

/** The id within the namespace, or undefined if it has none there. */
export function toInside(map: readonly IdExtent[], id: number): number | undefined {
  const extent = map.find(({ outside, count }) => id >= outside && id - outside < count)
  return extent && extent.inside + (id - extent.outside)
}

/** The id outside of the namespace, or undefined if it stands for none there. */
export function toOutside(map: readonly IdExtent[], id: number): number | undefined {
  const extent = map.find(({ inside, count }) => id >= inside && id - inside < count)
  return extent && extent.outside + (id - extent.inside)
}
