import type { Handle } from '../../kernel/handle.ts'
import { openTarget, placeBind } from './binds.ts'
import { placeDevice } from './devices.ts'
import { DEV, fillFresh, placeFresh, WRITABLE } from './fresh.ts'
import { buildHostRoot } from './host-root.ts'
import { placeInit } from './init.ts'
import { layout } from './layout.ts'
import type { Plan } from './plan.ts'
import { mountRootfs } from './rootfs.ts'
import { inside, openDirectory } from './tree.ts'
import { mappedNamespace } from './userns.ts'

/** Builds the container's whole root at `layout.root`, in the private mount namespace. */
export async function buildRoot(plan: Plan): Promise<void> {
  const { idmapped, rootfs, binds, ids } = plan
  using userns = idmapped || binds.some((bind) => bind.idmapped) ? await mappedNamespace(ids) : undefined
  const rootMap = idmapped ? userns : undefined
  if (rootfs === undefined) buildHostRoot(rootMap)
  else {
    makeMountPoints(rootfs, plan)
    mountRootfs(rootfs, rootMap)
  }
  using root = openDirectory(layout.root)
  furnish(root, plan, userns)
}

/**
 * Makes the mount points in the tree itself: an idmapped mount does not map our own ids, so we can make nothing
 * through it.
 */
function makeMountPoints(rootfs: string, { binds }: Plan): void {
  using tree = openDirectory(rootfs)
  for (const { path } of DEV) inside(tree, path)[Symbol.dispose]()
  for (const bind of binds) openTarget(tree, bind)[Symbol.dispose]()
}

function furnish(root: Handle, { rootfs, ids, binds, devices, init }: Plan, userns: Handle | undefined): void {
  const isHost = rootfs === undefined
  placeFresh(root, isHost ? [...WRITABLE, ...DEV] : DEV, ids)
  fillFresh(ids, isHost)
  for (const device of devices) placeDevice(device, ids)
  if (init !== undefined) placeInit(root, init)
  for (const bind of binds) placeBind(root, bind, userns)
}
