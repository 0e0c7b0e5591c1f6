import { _IO, _IOR } from './ioctl.ts'
import { type ResourceLimit, RLIM_INFINITY } from './rlimit.ts'

/** asm-generic/signal.h and linux/wait.h: the same on x86 and ARM. */
export const SIGHUP = 1
export const SIGKILL = 9
export const SIGTERM = 15
export const SIGCONT = 18
export const SIGURG = 23

/** A handler of a signal, as an address. */
export const SIG_IGN = 1

/** How pthread_sigmask(3) changes the mask. */
export const SIG_BLOCK = 0
export const SIG_UNBLOCK = 1

/** `struct sigaction` of the C library: handler, mask (`sigset_t`), flags, restorer. */
export const SIGACTION_SIZE = 152
export const SIGSET_SIZE = 128

/** waitpid(2) returns at once. */
export const WNOHANG = 1

/** linux/prctl.h */
export const PR_SET_PDEATHSIG = 1
export const PR_CAPBSET_READ = 23
export const PR_CAPBSET_DROP = 24
export const PR_SET_SECUREBITS = 28
export const PR_SET_NO_NEW_PRIVS = 38
export const PR_GET_NO_NEW_PRIVS = 39

/** linux/securebits.h: ids change without the capabilities. */
export const SECBIT_NO_SETUID_FIXUP = 4

/** linux/personality.h */
export const PER_LINUX = 0

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

/** linux/pidfd.h: a pidfd of a thread, since 6.9. */
export const PIDFD_THREAD = 0x80

/** linux/kcmp.h: compare two descriptors. */
export const KCMP_FILE = 0
export const KCMP_FILES = 2

/** The lines of `/proc/PID/limits` and what `RLIMIT_` calls them, linux/fs/proc/base.c lnames. */
const names: Readonly<Record<string, string>> = {
  'Max cpu time': 'CPU',
  'Max file size': 'FSIZE',
  'Max data size': 'DATA',
  'Max stack size': 'STACK',
  'Max core file size': 'CORE',
  'Max resident set': 'RSS',
  'Max processes': 'NPROC',
  'Max open files': 'NOFILE',
  'Max locked memory': 'MEMLOCK',
  'Max address space': 'AS',
  'Max file locks': 'LOCKS',
  'Max pending signals': 'SIGPENDING',
  'Max msgqueue size': 'MSGQUEUE',
  'Max nice priority': 'NICE',
  'Max realtime priority': 'RTPRIO',
  'Max realtime timeout': 'RTTIME',
}

interface NamedLimit extends ResourceLimit {
  /** `RLIMIT_NOFILE` and the like. */
  readonly type: string
}

const amount = (text: string): bigint => (text === 'unlimited' ? RLIM_INFINITY : BigInt(text))

/** Returns the limits in the order of their numbers; none of a process that has ended. @see proc_pid_limits(5) */
export function parseLimits(text: string): readonly NamedLimit[] {
  return text.split('\n').flatMap((line) => {
    const [, name = '', soft = '', hard = ''] = /^(Max(?: [a-z]+)+) {2,}(\w+) +(\w+)/.exec(line) ?? []
    const type = names[name]
    return type === undefined ? [] : [{ type: `RLIMIT_${type}`, soft: amount(soft), hard: amount(hard) }]
  })
}

/** spawn.h of the GNU C library: the same on x86 and ARM. */
export const POSIX_SPAWN_SETSIGDEF = 0x04
export const POSIX_SPAWN_SETSIGMASK = 0x08
export const POSIX_SPAWN_SETSID = 0x80
export const POSIX_SPAWN_SETCGROUP = 0x100

/** `posix_spawnattr_t` has 336 bytes and `posix_spawn_file_actions_t` 80; others of the C library may have more. */
export const SPAWN_ATTRIBUTES_SIZE = 512
export const SPAWN_ACTIONS_SIZE = 256
