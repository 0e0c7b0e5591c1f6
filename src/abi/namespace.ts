import { _IO, _IOR } from './ioctl.ts'

/** linux/sched.h: what unshare(2) makes one's own. */
export const CLONE_FS = 0x00000200
export const CLONE_NEWNS = 0x00020000

/** Questions to a namespace, linux/nsfs.h. */
const NSIO = 0xb7
export const NS_GET_USERNS = _IO(NSIO, 0x1)
export const NS_GET_PARENT = _IO(NSIO, 0x2)
/** Since 6.11. */
export const NS_GET_PID_FROM_PIDNS = _IOR(NSIO, 0x6, 4)
export const NS_GET_PID_IN_PIDNS = _IOR(NSIO, 0x8, 4)

/** Inode numbers of the first namespaces, linux/proc_ns.h. */
export const PROC_USER_INIT_INO = 0xeffffffd
export const PROC_PID_INIT_INO = 0xeffffffc
