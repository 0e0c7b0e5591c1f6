import { _IOWR } from './ioctl.ts'

/** linux/limits.h: the longest path with its NUL. */
export const PATH_MAX = 4096

/**
 * The smallest page of the machines that we run on, of which any page is a multiple. What the kernel reads of a string
 * or of options is at least this much.
 */
export const PAGE = 4096

/** linux/memfd.h and linux/fcntl.h: files of memory, and what can be ruled out for them for ever. */
export const MFD_CLOEXEC = 1
export const MFD_ALLOW_SEALING = 2
/** From Linux 6.3 on. */
export const MFD_NOEXEC_SEAL = 8

export const F_ADD_SEALS = 1033
/** No more seals. */
export const F_SEAL_SEAL = 1
export const F_SEAL_SHRINK = 2
export const F_SEAL_GROW = 4
export const F_SEAL_WRITE = 8

/** asm-generic/mman-common.h, linux/mman.h. */
export const PROT_READ = 1
export const PROT_WRITE = 2
export const MAP_SHARED = 1
/** What mmap(2) of the C library returns if it fails. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn

/** linux/fs.h: a question to `/proc/PID/maps`, since 6.11. */
export const PROCMAP_QUERY_SIZE = 104
export const PROCMAP_QUERY = _IOWR(0x66, 17, PROCMAP_QUERY_SIZE)
export const PROCMAP_QUERY_VMA_WRITABLE = 2

/** Of sysconf(3) of the C library: how many clock ticks of procfs make a second, and the size of a page. */
export const _SC_CLK_TCK = 2
export const _SC_PAGESIZE = 30

/** linux/time.h, linux/timerfd.h and linux/resource.h. */
export const CLOCK_MONOTONIC = 1
export const CLOCK_THREAD_CPUTIME_ID = 3
export const CLOCK_BOOTTIME = 7

export const TFD_CLOEXEC = 0o2000000

export const RUSAGE_THREAD = 1

/** What sysinfo(2) reports. All sizes are bytes. */
export interface Memory {
  readonly totalram: number
  readonly freeram: number
  readonly sharedram: number
  readonly bufferram: number
  readonly totalswap: number
  readonly freeswap: number
}
export interface SystemInfo extends Memory {
  /** Seconds. */
  readonly uptime: number
  /** The averages of 1, 5 and 15 minutes, times 65536. */
  readonly loads: readonly [number, number, number]
  readonly procs: number
}

/** The sizes of the struct for callers whose `long` has so many bits. */
export const SYSINFO_SIZE = { 64: 112, 32: 64 } as const
/** Where the uptime is, in both: first. */
export const UPTIME = 0

const MAX_32 = 0xffff_ffff
const MAX_PROCS = 0xffff

/**
 * Decodes `struct sysinfo` of a 64-bit machine: 112 bytes, little endian.
 *
 *   0 s64 uptime | 8 u64[3] loads | 32 u64 totalram, freeram, sharedram, bufferram, totalswap, freeswap |
 *   80 u16 procs | 88 u64 totalhigh, freehigh | 104 u32 mem_unit
 *
 * @see linux/include/uapi/linux/sysinfo.h
 */
export function decodeSysinfo(view: DataView): SystemInfo {
  const long = (index: number): number => Number(view.getBigUint64(8 * index, true))
  const unit = view.getUint32(104, true)
  return {
    uptime: long(0),
    loads: [long(1), long(2), long(3)],
    totalram: unit * long(4),
    freeram: unit * long(5),
    sharedram: unit * long(6),
    bufferram: unit * long(7),
    totalswap: unit * long(8),
    freeswap: unit * long(9),
    procs: view.getUint16(80, true),
  }
}

/** For a 64-bit caller, x32 among them: every figure fits, so the unit is a byte. Writes all 112 bytes. */
export function encodeSysinfo64(view: DataView, info: SystemInfo): void {
  for (const [index, value] of [info.uptime, ...info.loads, ...sizes(info)].entries())
    view.setBigUint64(8 * index, BigInt(value), true)
  view.setBigUint64(80, BigInt(Math.min(info.procs, MAX_PROCS)), true)
  view.setBigUint64(88, 0n, true)
  view.setBigUint64(96, 0n, true)
  view.setBigUint64(104, 1n, true)
}

/**
 * Writes all 64 bytes of `struct sysinfo` for a 32-bit caller; i386 and arm have the same layout. If memory or swap
 * does not fit into 32 bits, the unit is a page, as in kernel/sys.c compat_sys_sysinfo(). From 16 TiB on, where the
 * kernel's own figures wrap, the unit is larger.
 *
 *   0 s32 uptime | 4 u32[3] loads | 16 u32 totalram, freeram, sharedram, bufferram, totalswap, freeswap |
 *   40 u16 procs | 44 u32 totalhigh, freehigh | 52 u32 mem_unit | 56 8 bytes of padding
 */
export function encodeSysinfo32(view: DataView, info: SystemInfo): void {
  const unit = unitFor(info)
  const scaled = sizes(info).map((size) => Math.floor(size / unit))
  for (const [index, value] of [info.uptime, ...info.loads, ...scaled].entries())
    view.setUint32(4 * index, Math.min(value, MAX_32), true)
  view.setUint32(40, Math.min(info.procs, MAX_PROCS), true)
  view.setUint32(44, 0, true)
  view.setUint32(48, 0, true)
  view.setUint32(52, unit, true)
  view.setBigUint64(56, 0n, true)
}

/** In the order of the struct. */
const sizes = (memory: Memory): readonly number[] => [
  memory.totalram,
  memory.freeram,
  memory.sharedram,
  memory.bufferram,
  memory.totalswap,
  memory.freeswap,
]

function unitFor(memory: Memory): number {
  const most = Math.max(...sizes(memory))
  if (most <= MAX_32) return 1
  let unit = PAGE
  while (most / unit > MAX_32) unit *= 2
  return unit
}
