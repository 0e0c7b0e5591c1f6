import { type Cap, capMask } from '../abi/credentials.ts'
import { CapabilitySet } from '../kernel/credentials.ts'
import { restoreOrDie } from './helper.ts'

/** Maps capabilities to what each is needed for. */
type Needed = Readonly<Partial<Record<Cap, string>>>

/** The capabilities of a helper process of the engine. */
export interface ProcessCaps {
  readonly is: string
  /**
   * The capabilities that each thread and each executed program can have at most: the bounding set, which is set
   * before the process's program is executed, with no_new_privs.
   */
  readonly permitted: readonly Cap[]
  /** The effective set of the main thread by what it is doing; it is empty between two requests. */
  readonly effective: Readonly<Record<string, Needed>>
}

const OWN = 'to make its mount namespace and the lock room, and to check that the room locks'
const MOUNT = 'mount(2), umount2(2), mount_setattr(2), move_mount(2), and setns(2) to the lock room'
const LOCK_ROOM = 'setns(2) to the lock room, which locks nodev'

const DESCRIBED: Needed = {
  SYS_ADMIN: MOUNT,
  SYS_CHROOT: 'chroot(2) to a directory that holds nothing but the source, and setns(2) to the lock room',
  MKNOD: "the source's node in that directory, under the caller's name for it",
  DAC_OVERRIDE: "to open the caller's device node",
}

const LOCKED: Needed = {
  SYS_ADMIN: 'fsmount(2), mount_setattr(2) and move_mount(2), also with ids shifted',
  SYS_CHROOT: LOCK_ROOM,
  DAC_READ_SEARCH: "to open the mount's root directory, for the descriptor that the caller gets",
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
      ...(['SETUID', 'SETGID', 'SYS_PTRACE'] as const),
    ],
    effective: {
      start: { SYS_ADMIN: OWN, SYS_CHROOT: LOCK_ROOM },
      join: { DAC_OVERRIDE: "to open `cgroup.procs` of the container's groups, and of our own" },
      mount: DESCRIBED,
      create: DESCRIBED,
      finish: LOCKED,
      renew: LOCKED,
      lock: { SYS_ADMIN: 'move_mount(2) and umount2(2) in its own mount namespace', SYS_CHROOT: LOCK_ROOM },
      attach: {
        SYS_ADMIN: "setns(2) to the caller's mount namespace, and move_mount(2) there",
        SYS_CHROOT: 'setns(2), because it also changes the root directory',
      },
      remount: {
        SYS_ADMIN: "setns(2) to the caller's mount namespace, and mount(2) there",
        SYS_CHROOT: 'setns(2), because it also changes the root directory',
        DAC_READ_SEARCH: 'to enter the root directory of the changed mount, which may be closed',
      },
      node: {
        SETUID: "to take the caller's user id for file systems, and ours again",
        SETGID: 'the same for its group id and groups',
      },
      nodeAsCaller: {
        MKNOD: 'mknodat(2)',
        FSETID: 'only if the caller has it over the directory',
        DAC_OVERRIDE: 'only if the caller has it over the directory',
        DAC_READ_SEARCH: 'only if the caller has it over the directory',
        SETUID: 'to take our own ids again',
        SETGID: 'to take our own ids again',
      },
      attribute: { SYS_ADMIN: 'setxattr(2) and removexattr(2) of attributes that the policy allows' },
      open: { SYS_ADMIN: 'fsopen(2)' },
      pick: { SYS_ADMIN: 'fspick(2)' },
      reconfigure: { SYS_ADMIN: 'fsconfig(2)' },
      adopt: { SYS_PTRACE: "pidfd_getfd(2) of the caller's context of a bpffs" },
      createBpffs: { SYS_ADMIN: 'fsconfig(2) with the options that delegate, and to make the file system' },
      greet: {},
    },
  },
  walker: {
    is: "a process in a container's user namespace that looks up paths for callers; its capabilities count only there",
    permitted: ['SETUID', 'SETGID', 'SYS_CHROOT', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'SYS_PTRACE'],
    effective: {
      become: {
        SETUID: "to take the caller's user ids",
        SETGID: 'to take its group ids and groups',
        SYS_CHROOT: "chroot(2) to the caller's root directory",
        DAC_READ_SEARCH: 'the same, if its ids do not admit it',
      },
      walk: {
        DAC_OVERRIDE: 'only if the caller has it, because it counts in a lookup',
        DAC_READ_SEARCH: 'only if the caller has it, because it counts in a lookup',
        SYS_PTRACE: 'only if the caller has it, for links of procfs',
      },
      beside: {
        DAC_READ_SEARCH: 'to look in procfs at what the caller may see as itself',
        SYS_PTRACE: 'to look in procfs at what the caller may see as itself',
      },
    },
  },
} as const satisfies Record<string, ProcessCaps>

/**
 * Sets the capabilities of the main thread of a helper process: at most the declared ones, and none between requests.
 *
 * Invariant: called by the main thread only.
 */
export class OwnCaps<K extends string> {
  readonly #permitted: bigint
  readonly #effective: ReadonlyMap<string, bigint>
  readonly #sets = new Map<bigint, CapabilitySet>()

  constructor({ permitted, effective }: Omit<ProcessCaps, 'effective'> & { readonly effective: Record<K, object> }) {
    this.#permitted = capMask(...permitted)
    const masks = Object.entries<object>(effective).map(
      ([kind, needed]) => [kind, capMask(...namesOf(needed))] as const,
    )
    this.#effective = new Map(masks)
  }

  /**
   * Makes the effective set the one that is declared for `kind`.
   *
   * @param among a mask: only capabilities of it are taken
   * @throws {Error} never a SyscallError: a process whose capabilities are not those declared must end
   */
  enter(kind: K, among = -1n): void {
    this.#enter(this.#effective.get(kind)! & among)
  }

  rest(): void {
    this.#enter(0n)
  }

  /** Runs `action` with the capabilities of one kind of request. */
  during<T>(kind: K, action: () => T): T {
    this.enter(kind)
    try {
      return action()
    } finally {
      this.rest()
    }
  }

  #enter(effective: bigint): void {
    restoreOrDie(() => {
      const set = this.#set(effective)
      set.enter()
      if (!set.entered) throw new Error('capabilities do not read back')
    })
  }

  #set(effective: bigint): CapabilitySet {
    const known = this.#sets.get(effective)
    if (known) return known
    const made = new CapabilitySet({ effective, permitted: this.#permitted, inheritable: 0n })
    this.#sets.set(effective, made)
    return made
  }
}

const namesOf = (needed: object): readonly Cap[] => Object.keys(needed) as Cap[]
