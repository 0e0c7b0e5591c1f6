import { O_RDONLY } from '../abi/fcntl.ts'
import { _SC_CLK_TCK, _SC_PAGESIZE, decodeSysinfo, SYSINFO_SIZE, type SystemInfo } from '../abi/system.ts'
import type { Handle } from './fd.ts'
import { openat, read } from './files.ts'
import { check, cstring, libc } from './libc.ts'

const libcSysinfo = libc.func('int sysinfo(uint8_t *info)')
const libcSysconf = libc.func('long sysconf(int name)')
const libcGetrandom = libc.func('long getrandom(uint8_t *bytes, size_t length, uint32_t flags)')

const bytes = new Uint8Array(SYSINFO_SIZE[64])
const view = new DataView(bytes.buffer)

/** Returns the figures of the whole machine. @see sysinfo(2) */
export function hostInfo(): SystemInfo {
  check('sysinfo', libcSysinfo(bytes))
  return decodeSysinfo(view)
}

/** Returns how many clock ticks of procfs make a second. */
export const ticksPerSecond = (): number => Number(libcSysconf(_SC_CLK_TCK))

/** Returns the size of a page of this machine, in bytes. */
export const pageSize = (): number => Number(libcSysconf(_SC_PAGESIZE))

const MEMINFO = cstring('meminfo')
const text = Buffer.alloc(4096)

/**
 * Returns the kernel's estimate of the memory that is available without swapping, in bytes.
 *
 * @see proc_meminfo(5): MemAvailable, in KiB
 */
export function availableMemory(proc: Handle): number {
  using file = openat(proc.raw, MEMINFO, O_RDONLY)
  const line = /^MemAvailable: +(\d+) kB$/m.exec(text.toString('latin1', 0, read(file, text)))
  if (!line) throw new RangeError('Cannot read meminfo: no MemAvailable')
  return 1024 * Number(line[1])
}

/**
 * Returns up to 256 random bytes, which nobody can foretell. Node's own way loads all of its cryptography, in a
 * millisecond or two.
 *
 * @see getrandom(2)
 */
export function randomBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  check('getrandom', Number(libcGetrandom(bytes, length, 0)))
  return bytes
}

/** Returns a random number from 1 to 2^31 - 1. */
export function randomNumber(): number {
  const [word = 0] = new Uint32Array(randomBytes(4).buffer)
  return word & 0x7fff_ffff || 1
}
