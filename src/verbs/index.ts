import type { Verb, Verbs } from '../calls/act.ts'
import {
  attachProgram,
  describeProgram,
  detachLink,
  detachProgram,
  linkProgram,
  listPrograms,
  loadProgram,
  openProgram,
  updateLink,
} from './bpf.ts'
import {
  create,
  createBpffs,
  delegate,
  mountContext,
  openContext,
  pickContext,
  reconfigure,
  renewMount,
} from './fs-context.ts'
import { limit } from './limit.ts'
import { mknod, placeNode } from './mknod.ts'
import { fuse, mount, placeMount, remount } from './mount.ts'
import { schedule } from './schedule.ts'
import { getxattr, listxattr, removexattr, setxattr } from './xattr.ts'

const report: Verb<Verbs['report']> = {
  steps: [],
  safe:
    "Nothing changes. The caller gets figures about its container's control groups and the machine, which any of its " +
    'processes may know.',
  run: ({ writes }) => ({ value: 0n, writes }),
}

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
  limit,
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
  delegate,
  createBpffs,
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
