import { mkdirSync, readFileSync, statfsSync } from 'node:fs'
import { CGROUP2_SUPER_MAGIC } from '../../abi/magic.ts'
import { mount } from '../../kernel/mount.ts'
import { parseCgroups } from '../../kernel/procfs/cgroup.ts'
import { parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { CGROUP_ROOT, layout } from './layout.ts'
import { graft, openDirectory } from './tree.ts'

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

/** Returns where the host has the whole tree of v2, to be written to. */
const unifiedOfHost = (): string | undefined =>
  parseMountinfo(readFileSync('/proc/thread-self/mountinfo', 'utf8')).find(
    ({ type, root, options }) => type === 'cgroup2' && root === '/' && options.includes('rw'),
  )?.point

/** Shows what the host has mounted already: the kernel waits for all processors in each mount(2) of cgroup2. */
function mountUnified(): void {
  try {
    const there = unifiedOfHost()
    if (there === undefined) {
      mount('cgroup2', CGROUP_ROOT, 0n)
      return
    }
    using target = openDirectory(CGROUP_ROOT)
    graft(there, target)
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
