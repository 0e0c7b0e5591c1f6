import type { Handle } from '../../kernel/handle.ts'
import { placeBind } from './binds.ts'
import { placeDevice } from './devices.ts'
import { DEV, fillFresh, placeFresh, WRITABLE } from './fresh.ts'
import { buildHostRoot } from './host-root.ts'
import { layout } from './layout.ts'
import type { Plan } from './plan.ts'
import { mountRootfs } from './rootfs.ts'
import { inside, openDirectory } from './tree.ts'
import { mappedNamespace } from './userns.ts'

/** Builds the container's whole root at `layout.root`, in the private mount namespace. */
export async function buildRoot(plan: Plan): Promise<void> {
  using userns = plan.idmapped ? await mappedNamespace(plan.ids) : undefined
  if (plan.rootfs === undefined) buildHostRoot(userns)
  else {
    makeMountPoints(plan.rootfs, plan)
    mountRootfs(plan.rootfs, userns)
  }
  using root = openDirectory(layout.root)
  furnish(root, plan)
}

/**
 * Makes the mount points in the tree itself: an idmapped mount does not map our own ids, so we can make nothing
 * through it.
 */
function makeMountPoints(rootfs: string, { binds }: Plan): void {
  using tree = openDirectory(rootfs)
  for (const { path } of DEV) inside(tree, path)[Symbol.dispose]()
  for (const { target } of binds) inside(tree, target)[Symbol.dispose]()
}

function furnish(root: Handle, { rootfs, ids, binds, devices }: Plan): void {
  const isHost = rootfs === undefined
  placeFresh(root, isHost ? [...WRITABLE, ...DEV] : DEV, ids)
  fillFresh(ids, isHost)
  for (const device of devices) placeDevice(device, ids)
  for (const bind of binds) placeBind(root, bind)
}
