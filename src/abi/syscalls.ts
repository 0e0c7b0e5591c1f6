/**
 * The numbers of the system calls that we trap, refuse or make, per architecture.
 *
 * @see linux syscall_64.tbl, syscall_32.tbl, unistd.h
 */
interface Architecture {
  /** AUDIT_ARCH_*, linux/audit.h. */
  readonly audit: number
  /** libseccomp's name. */
  readonly scmp: string
  readonly bits: 32 | 64
  readonly numbers: Readonly<Record<string, number>>
}

/** Calls added since 5.1 have one number everywhere. */
export const everywhere = {
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mount_setattr: 442,
  setxattrat: 463,
  getxattrat: 464,
  listxattrat: 465,
  removexattrat: 466,
}

type AttributeCall = `${'' | 'l' | 'f'}${'set' | 'get' | 'list' | 'remove'}xattr`

/** The calls on attributes have numbers in this order on every architecture. */
function attributesFrom(first: number): Readonly<Record<AttributeCall, number>> {
  const names = ['set', 'get', 'list', 'remove'].flatMap((act) => ['', 'l', 'f'].map((file) => `${file}${act}xattr`))
  return Object.fromEntries(names.map((name, index) => [name, first + index])) as Record<AttributeCall, number>
}

/** i386 had them first, and arm took them over. */
const old32 = {
  mknod: 14,
  mount: 21,
  umount2: 52,
  setrlimit: 75,
  setpriority: 97,
  sysinfo: 116,
  sched_setparam: 154,
  sched_setscheduler: 156,
  ...attributesFrom(226),
}

export const architectures = {
  x86_64: {
    audit: 0xc000003e,
    scmp: 'SCMP_ARCH_X86_64',
    bits: 64,
    numbers: {
      ...everywhere,
      sysinfo: 99,
      mknod: 133,
      setpriority: 141,
      sched_setparam: 142,
      sched_setscheduler: 144,
      setrlimit: 160,
      mount: 165,
      umount2: 166,
      ...attributesFrom(188),
      ioprio_set: 251,
      mknodat: 259,
      prlimit64: 302,
      sched_setattr: 314,
      bpf: 321,
    },
  },
  i386: {
    audit: 0x40000003,
    scmp: 'SCMP_ARCH_X86',
    bits: 32,
    numbers: {
      ...everywhere,
      ...old32,
      ioprio_set: 289,
      mknodat: 297,
      prlimit64: 340,
      sched_setattr: 351,
      bpf: 357,
    },
  },
  aarch64: {
    audit: 0xc00000b7,
    scmp: 'SCMP_ARCH_AARCH64',
    bits: 64,
    numbers: {
      ...everywhere,
      ...attributesFrom(5),
      ioprio_set: 30,
      mknodat: 33,
      umount2: 39,
      mount: 40,
      sched_setparam: 118,
      sched_setscheduler: 119,
      setpriority: 140,
      setrlimit: 164,
      sysinfo: 179,
      prlimit64: 261,
      sched_setattr: 274,
      bpf: 280,
    },
  },
  arm: {
    audit: 0x40000028,
    scmp: 'SCMP_ARCH_ARM',
    bits: 32,
    numbers: {
      ...everywhere,
      ...old32,
      ioprio_set: 314,
      mknodat: 324,
      prlimit64: 369,
      sched_setattr: 380,
      bpf: 386,
    },
  },
} as const satisfies Record<string, Architecture>

const names = new Map<string, string>()
for (const { audit, numbers } of Object.values<Architecture>(architectures)) {
  for (const [name, nr] of Object.entries(numbers)) names.set(`${audit}:${nr}`, name)
}

/** The name of a call by the architecture that it was made in; undefined if we know none, as for x32. */
export const syscallName = (arch: number, nr: number): string | undefined => names.get(`${arch >>> 0}:${nr}`)

const widths = new Map(Object.values<Architecture>(architectures).map(({ audit, bits }) => [audit >>> 0, bits]))

/** The width of an architecture's registers; undefined if we do not know it. */
export const bitsOf = (arch: number): 32 | 64 | undefined => widths.get(arch >>> 0)

/** All names that a call can have. */
export const syscallNames: readonly string[] = [...new Set(names.values())]

/** What came after the numbers were unified has one number on every architecture. */
const unified = {
  pidfd_send_signal: 424,
  pidfd_open: 434,
  pidfd_getfd: 438,
  process_mrelease: 448,
  openat2: 437,
  faccessat2: 439,
}

/** Numbers of the calls that we make ourselves where the C library has no wrapper, or one for the whole process. */
const own = {
  x64: {
    ...architectures.x86_64.numbers,
    ...unified,
    getgroups: 115,
    setgroups: 116,
    setresuid: 117,
    setresgid: 119,
    setfsuid: 122,
    setfsgid: 123,
    capget: 125,
    capset: 126,
    pivot_root: 155,
    gettid: 186,
    tgkill: 234,
    exit_group: 231,
    keyctl: 250,
    ioprio_get: 252,
    sched_getattr: 315,
    kcmp: 312,
    seccomp: 317,
  },
  arm64: {
    ...architectures.aarch64.numbers,
    ...unified,
    ioprio_get: 31,
    pivot_root: 41,
    capget: 90,
    capset: 91,
    exit_group: 94,
    setresuid: 147,
    setresgid: 149,
    setfsuid: 151,
    setfsgid: 152,
    getgroups: 158,
    setgroups: 159,
    gettid: 178,
    tgkill: 131,
    keyctl: 219,
    sched_getattr: 275,
    kcmp: 272,
    seccomp: 277,
  },
} as const

/** The table of the architecture that Node runs on. @throws {Error} on others than x86_64 and aarch64 */
export function ownSyscalls(arch: string): (typeof own)['x64' | 'arm64'] {
  if (arch === 'x64' || arch === 'arm64') return own[arch]
  throw new Error(`Cannot run on ${arch}: only x86_64 and aarch64 are supported`)
}
