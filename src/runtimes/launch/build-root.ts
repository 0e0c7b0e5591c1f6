import type { Handle } from '../../kernel/handle.ts'
import { openTarget, placeBind } from './binds.ts'
import { placeDevice } from './devices.ts'
import { clearWay, DEV, fillFresh, placeFresh, WRITABLE } from './fresh.ts'
import { buildHostRoot } from './host-root.ts'
import { placeInit } from './init.ts'
import { layout } from './layout.ts'
import type { Plan } from './plan.ts'
import { makeMountPoints, mountRootfs } from './rootfs.ts'
import { openDirectory } from './tree.ts'
import { mappedNamespace } from './userns.ts'

/** Builds the container's whole root at `layout.root`, in the private mount namespace. */
export async function buildRoot(plan: Plan): Promise<void> {
  const { idmapped, rootfs, binds, ids } = plan
  using userns = idmapped || binds.some((bind) => bind.idmapped) ? await mappedNamespace(ids) : undefined
  const rootMap = idmapped ? userns : undefined
  if (rootfs === undefined) buildHostRoot(rootMap)
  else {
    makeMountPoints(rootfs)
    for (const bind of plan.binds) openTarget(rootfs.tree, bind)[Symbol.dispose]()
    mountRootfs(rootfs, rootMap)
  }
  using root = openDirectory(layout.root)
  furnish(root, plan, userns)
}

function furnish(root: Handle, { rootfs, ids, binds, devices, init }: Plan, userns: Handle | undefined): void {
  const isHost = rootfs === undefined
  placeFresh(root, isHost ? [...WRITABLE, ...DEV] : DEV, ids)
  fillFresh(ids, isHost)
  for (const device of devices) placeDevice(device, ids)
  if (init !== undefined) placeInit(root, init)
  for (const bind of binds) {
    clearWay(root, bind.target, ids)
    placeBind(root, bind, userns)
  }
}
