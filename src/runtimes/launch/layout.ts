/**
 * Where `run` builds: on a tmpfs of a private mount namespace. On the host the directory stays empty, and all that was
 * mounted vanishes with the processes.
 */
export const BASE = '/run/intercede/run'

export const layout = {
  /** The container's root, complete with all mounts but those that only the container itself can make. */
  root: `${BASE}/root`,
  /** An overlay's lower, upper and work directories, numbered. */
  layers: `${BASE}/layers`,
  /** The directories that belong to the container's root. */
  fresh: `${BASE}/fresh`,
  /** The memory controller of cgroup v1, where the machine has it there. */
  memory: `${BASE}/memory`,
  bundle: `${BASE}/bundle`,
  state: `${BASE}/state`,
  log: `${BASE}/runtime.log`,
  console: `${BASE}/console.sock`,
  agent: `${BASE}/agent.sock`,
} as const

export const CGROUP_ROOT = '/sys/fs/cgroup'
