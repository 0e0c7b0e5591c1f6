/** Capability numbers, linux/capability.h. The order is the kernel's: the index is the number. */
export const capabilities = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
] as const
export type Cap = (typeof capabilities)[number]

/** The number of a capability, for bit masks and for reasons. */
export const capNumber = (cap: Cap): number => capabilities.indexOf(cap)

const bits = Object.fromEntries(capabilities.map((cap, number) => [cap, 1n << BigInt(number)])) as Record<Cap, bigint>

/** One capability as a 64-bit mask, as in `/proc/PID/status`: looked up, for every call asks for some. */
export const capBit = (cap: Cap): bigint => bits[cap]

/** A set of capabilities as one mask. */
export const capMask = (...caps: readonly Cap[]): bigint => caps.reduce((mask, cap) => mask | capBit(cap), 0n)

/** The version of the sets of capget(2) and capset(2) that has 64 bits. */
export const _LINUX_CAPABILITY_VERSION_3 = 0x20080522

/** One line of `/proc/PID/uid_map` or `gid_map`, read from our own user namespace. */
export interface IdExtent {
  readonly inside: number
  readonly outside: number
  readonly count: number
}

/** What shows for an id that a mount or a namespace does not map. */
export const OVERFLOW_ID = 65534

/** @see user_namespaces(7) */
export function parseIdMap(text: string): readonly IdExtent[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      return { inside, outside, count }
    })
}

/** The id within the namespace, or undefined if it has none there. */
export function toInside(map: readonly IdExtent[], id: number): number | undefined {
  const extent = map.find(({ outside, count }) => id >= outside && id - outside < count)
  return extent && extent.inside + (id - extent.outside)
}

/** The id outside of the namespace, or undefined if it stands for none there. */
export function toOutside(map: readonly IdExtent[], id: number): number | undefined {
  const extent = map.find(({ inside, count }) => id >= inside && id - inside < count)
  return extent && extent.outside + (id - extent.inside)
}

/** linux/keyctl.h */
export const KEYCTL_JOIN_SESSION_KEYRING = 1
export const KEYCTL_CHOWN = 4
export const KEYCTL_SETPERM = 5
/** All rights for the owner, and none for who possesses the key. */
export const KEY_USR_ALL = 0x003f_0000
export const KEY_SPEC_SESSION_KEYRING = -3
