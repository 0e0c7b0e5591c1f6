import { mkdirSync, readFileSync, statfsSync } from 'node:fs'
import { CGROUP2_SUPER_MAGIC } from '../../abi/magic.ts'
import { mount } from '../../kernel/mount.ts'
import { parseCgroups } from '../../kernel/procfs/cgroup.ts'
import { CGROUP_ROOT, layout } from './layout.ts'

/** All containers of `run`, in each hierarchy. */
export const FAMILY = 'intercede'

/** The directories that hold the cgroups of `run`: the unified hierarchy, and v1's memory controller if it is there. */
export interface Hierarchies {
  readonly unified: string
  readonly memory: string | undefined
}

/**
 * Shows a pure cgroup v2 tree at /sys/fs/cgroup, as runtimes want it, in our private mount namespace. A hybrid machine
 * keeps its memory controller in v1: that is mounted aside, only if the host uses it so already.
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
 * Whether `--memory` can be obeyed, and by whom.
 *
 * @throws {Error} if neither hierarchy has a memory controller
 */
export function memoryController({ memory }: Hierarchies): 'runtime' | 'v1' {
  if (readFileSync(`${CGROUP_ROOT}/cgroup.controllers`, 'utf8').split(/\s+/).includes('memory')) return 'runtime'
  if (memory) return 'v1'
  throw new Error('Cannot limit memory: no cgroup hierarchy has the memory controller')
}
