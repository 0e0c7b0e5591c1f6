import { mkdirSync, readFileSync, statfsSync } from 'node:fs'
import { CGROUP2_SUPER_MAGIC } from '../../abi/magic.ts'
import { mount } from '../../kernel/mount.ts'
import { parseCgroups } from '../../kernel/procfs/cgroup.ts'
import { CGROUP_ROOT, layout } from './layout.ts'

/** The cgroup, in each hierarchy, of all containers of `run`. */
export const FAMILY = 'intercede'

/**
 * The directories that hold the cgroups of `run`: in the unified hierarchy, and in v1's memory controller if the host
 * uses it.
 */
export interface Hierarchies {
  readonly unified: string
  readonly memory: string | undefined
}

/**
 * Mounts a pure cgroup v2 tree at /sys/fs/cgroup, as runtimes need it, in our private mount namespace. On a hybrid
 * machine the memory controller is in v1: it is mounted elsewhere, and only if the host uses it already.
 */
export function openHierarchies(): Hierarchies {
  const unified = `${CGROUP_ROOT}/${FAMILY}`
  if (isPure()) return { unified, memory: undefined }
  const own = parseCgroups(readFileSync('/proc/self/cgroup', 'utf8'))
  const memory = own.some(({ controllers }) => controllers.join() === 'memory') ? layout.memory : undefined
  if (memory) {
    mkdirSync(memory)
    mount('cgroup', memory, 0n, 'memory')
  }
  mountUnified()
  return { unified, memory: memory && `${memory}/${FAMILY}` }
}

function isPure(): boolean {
  try {
    return statfsSync(CGROUP_ROOT).type === CGROUP2_SUPER_MAGIC
  } catch {
    return false
  }
}

function mountUnified(): void {
  try {
    mount('cgroup2', CGROUP_ROOT, 0n)
  } catch (error) {
    throw new Error(
      `Cannot limit devices: this kernel gives no cgroup v2 at ${CGROUP_ROOT} (${(error as Error).message})`,
    )
  }
}

/**
 * Returns who sets the limit of `--memory`: the runtime (cgroup v2) or we (v1).
 *
 * @throws {Error} if neither hierarchy has a memory controller
 */
export function memoryController({ memory }: Hierarchies): 'runtime' | 'v1' {
  if (readFileSync(`${CGROUP_ROOT}/cgroup.controllers`, 'utf8').split(/\s+/).includes('memory')) return 'runtime'
  if (memory) return 'v1'
  throw new Error('Cannot limit memory: no cgroup hierarchy has the memory controller')
}
