import type { Family } from '../case.ts'
import { bpf } from './bpf.ts'
import { contexts } from './contexts.ts'
import { mknod } from './mknod.ts'
import { mount } from './mount.ts'
import { mountSetattr } from './mount-setattr.ts'
import { sched } from './sched.ts'
import { sysinfo } from './sysinfo.ts'
import { umount } from './umount.ts'
import { xattr } from './xattr.ts'

/** All cases, in the order of the page. */
export const families: readonly Family[] = [
  ...mknod,
  ...mount,
  ...umount,
  ...contexts,
  ...mountSetattr,
  ...xattr,
  ...sched,
  ...sysinfo,
  ...bpf,
]
