import type { Verb, Verbs } from '../calls/act.ts'
import { attachProgram, linkProgram } from './attach-program.ts'
import { detachLink, detachProgram, updateLink } from './detach-program.ts'
import { create, mountContext, openContext, pickContext, reconfigure, renewMount } from './fs-context.ts'
import { fuse } from './fuse.ts'
import { listPrograms } from './list-programs.ts'
import { loadProgram } from './load-program.ts'
import { mknod } from './mknod.ts'
import { mount, placeMount, remount } from './mount.ts'
import { describeProgram, openProgram } from './open-program.ts'
import { placeNode } from './place-node.ts'
import { report } from './report.ts'
import { schedule } from './schedule.ts'
import { getxattr, listxattr, removexattr, setxattr } from './xattr.ts'

/** The closed list of privileged acts; docs/guide/security.md is generated from it. */
export const verbs: { readonly [V in keyof Verbs]: Verb<Verbs[V]> } = {
  mknod,
  placeNode,
  report,
  setxattr,
  removexattr,
  getxattr,
  listxattr,
  schedule,
  mount,
  fuse,
  openContext,
  create,
  mountContext,
  placeMount,
  renewMount,
  remount,
  pickContext,
  reconfigure,
  loadProgram,
  attachProgram,
  detachProgram,
  listPrograms,
  openProgram,
  describeProgram,
  linkProgram,
  updateLink,
  detachLink,
}
