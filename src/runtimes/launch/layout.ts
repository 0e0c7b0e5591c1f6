/**
 * The directory in which `run` builds, on a tmpfs of a private mount namespace. On the host it stays empty, and all
 * mounts vanish with the processes.
 */
export const BASE = '/run/intercede/run'

export const layout = {
  /** The container's root with all mounts, except those that only the container itself can make. */
  root: `${BASE}/root`,
  /** The lower, upper and work directories of the overlays, numbered. */
  layers: `${BASE}/layers`,
  /** New directories that belong to the container's root. */
  fresh: `${BASE}/fresh`,
  /** The mount of cgroup v1's memory controller, if the machine uses it. */
  memory: `${BASE}/memory`,
  bundle: `${BASE}/bundle`,
  state: `${BASE}/state`,
  log: `${BASE}/runtime.log`,
  console: `${BASE}/console.sock`,
  agent: `${BASE}/agent.sock`,
} as const

export const CGROUP_ROOT = '/sys/fs/cgroup'
