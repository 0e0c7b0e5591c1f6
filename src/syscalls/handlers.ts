import type { Syscall } from '../calls/syscall.ts'
import { mknod, mknodat } from './mknod.ts'
import { sched } from './sched.ts'
import { sysinfo } from './sysinfo.ts'
import { xattrHandlers } from './xattr.ts'

/** The calls that are served. A request is made and read by one handler only, so its type is nobody else's business. */
export const handlers = [mknod, mknodat, ...xattrHandlers, ...sched, sysinfo] as readonly Syscall<unknown>[]
