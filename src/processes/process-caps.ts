import type { Cap } from '../abi/capability.ts'

/** Maps capabilities to what each is needed for. */
type Needed = Readonly<Partial<Record<Cap, string>>>

/** The capabilities of a helper process of the engine. */
export interface ProcessCaps {
  /** What the process is. */
  readonly is: string
  /**
   * The capabilities that each thread and each executed program can have at most: the bounding set, which is set
   * before the process's program is executed, with no_new_privs.
   */
  readonly permitted: readonly Cap[]
  /** The effective set of the main thread by what it is doing; it is empty between two requests. */
  readonly effective: Readonly<Record<string, Needed>>
}

const OWN = 'to make its mount namespace and the lock room, and to see that this one locks'
const MOUNT = 'mount(2), umount2(2), mount_setattr(2), move_mount(2), and setns(2) to the lock room'
const JOIN = 'to open `cgroup.procs` of groups that belong to the container'
const LOCK_ROOM = 'setns(2) to the lock room, in which nodev is locked'

const DESCRIBED: Needed = {
  SYS_ADMIN: MOUNT,
  SYS_CHROOT: 'chroot(2) to a directory that holds nothing but the source, and setns(2) to the lock room',
  MKNOD: 'the node of the source in that directory, by the name that the caller gave',
  DAC_OVERRIDE: "to open the caller's node of the device, and `cgroup.procs` of groups that belong to the container",
}

const LOCKED: Needed = {
  SYS_ADMIN: 'fsmount(2), mount_setattr(2) and move_mount(2), also with ids shifted',
  SYS_CHROOT: LOCK_ROOM,
  DAC_READ_SEARCH: 'to open the root directory of what was mounted, for the descriptor that the caller gets',
}

/**
 * The capabilities of mounters and walkers. They are enforced: each process enters these sets and reads them back,
 * and the engine takes all other capabilities away when it starts the process.
 *
 * @see capabilities(7), linux/security/commoncap.c cap_bprm_creds_from_file()
 */
export const processCaps = {
  mounter: {
    is: 'a process of the host that mounts for one caller at a time, in its control groups',
    permitted: [
      ...(['SYS_ADMIN', 'SYS_CHROOT', 'MKNOD', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FSETID'] as const),
      ...(['SETUID', 'SETGID'] as const),
    ],
    effective: {
      start: { SYS_ADMIN: OWN, SYS_CHROOT: LOCK_ROOM },
      mount: DESCRIBED,
      create: DESCRIBED,
      finish: { ...LOCKED, DAC_OVERRIDE: JOIN },
      renew: LOCKED,
      lock: { SYS_ADMIN: 'move_mount(2) and umount2(2) in its own mount namespace', SYS_CHROOT: LOCK_ROOM },
      attach: {
        SYS_ADMIN: 'setns(2) to the mount namespace of the caller, and move_mount(2) there',
        SYS_CHROOT: 'setns(2), for it changes the root directory too',
      },
      remount: {
        SYS_ADMIN: 'setns(2) to the mount namespace of the caller, and mount(2) there',
        SYS_CHROOT: 'setns(2), for it changes the root directory too',
        DAC_READ_SEARCH: 'to stand in the root directory of what is changed, which may be closed',
      },
      node: {
        DAC_OVERRIDE: JOIN,
        SETUID: "to take the caller's user id for file systems, and ours again",
        SETGID: 'the same for its group id and groups',
      },
      nodeAsCaller: {
        MKNOD: 'mknodat(2)',
        FSETID: 'only if the caller has it over the directory',
        DAC_OVERRIDE: 'only if the caller has it over the directory',
        DAC_READ_SEARCH: 'only if the caller has it over the directory',
        SETUID: 'to take our own ids again',
        SETGID: 'the same',
      },
      open: { SYS_ADMIN: 'fsopen(2)', DAC_OVERRIDE: JOIN },
      pick: { SYS_ADMIN: 'fspick(2)', DAC_OVERRIDE: JOIN },
      reconfigure: { SYS_ADMIN: 'fsconfig(2)' },
      greet: {},
    },
  },
  walker: {
    is: "a process of a container's user namespace that looks paths up for callers; it has all of these in that namespace only",
    permitted: ['SETUID', 'SETGID', 'SYS_CHROOT', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'SYS_PTRACE'],
    effective: {
      become: {
        SETUID: 'to take the user ids of the caller',
        SETGID: 'to take its group ids and groups',
        SYS_CHROOT: "chroot(2) to the caller's root directory",
        DAC_READ_SEARCH: 'the same, where its ids do not let it in',
      },
      walk: {
        DAC_OVERRIDE: 'only if the caller has it, for it counts in a lookup',
        DAC_READ_SEARCH: 'only if the caller has it, as above',
        SYS_PTRACE: 'only if the caller has it, as above, for links of procfs',
      },
      beside: {
        DAC_READ_SEARCH: 'to look in procfs at what the caller may look at as itself',
        SYS_PTRACE: 'the same',
      },
    },
  },
} as const satisfies Record<string, ProcessCaps>
