import { fchmodSync, fstatSync } from 'node:fs'
import { errnos } from '../abi/errno.ts'
import {
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MFD_NOEXEC_SEAL,
} from '../abi/memfd.ts'
import { addSeals, Fd, guarded } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, cstring, lastErrno, libc, view } from './libc.ts'

const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_FAILED = 0xffff_ffff_ffff_ffffn
/** A size that is for ever: a mapping beyond the end of a file that somebody has cut would kill us by SIGBUS. */
const SIZED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL

const libcMemfdCreate = libc.func('int memfd_create(uint8_t *name, uint32_t flags)')
const libcFtruncate = libc.func('int ftruncate(int fd, int64_t length)')
const libcMmap = libc.func('uintptr_t mmap(uintptr_t at, size_t length, int prot, int flags, int fd, int64_t offset)')

/**
 * A file without a name in any file system, for its owner alone: memfd_create(2) gives it mode 0777 or 0666, and a descriptor for
 * reading can be opened anew by `/proc/PID/fd`, for all that the mode allows.
 *
 * @param fill makes it as long as it will be @param seals what is ruled out then
 */
function create(name: string, seals: number, fill: (fd: Handle) => void): Fd {
  const fd = new Fd(check('memfd_create', createUnsealed(cstring(name))))
  return guarded(fd, () => {
    restrict(fd)
    fill(fd)
    addSeals(fd, seals)
    return fd
  })
}

/** Never to be executed, on kernels that know that. */
function createUnsealed(name: Uint8Array): number {
  const usual = MFD_CLOEXEC | MFD_ALLOW_SEALING
  const made: number = libcMemfdCreate(name, usual | MFD_NOEXEC_SEAL)
  return made < 0 && lastErrno() === errnos.EINVAL ? libcMemfdCreate(name, usual) : made
}

/** Only its owner may open such a file anew. */
export const restrict = (fd: Handle): void => fchmodSync(fd.raw, 0o600)

/** Memory, zeroed, that other processes get as a descriptor. */
export const memfd = (name: string, length: number): Fd =>
  create(name, SIZED, (fd) => check('ftruncate', libcFtruncate(fd.raw, length)))

/** Maps all of a shared memory for the life of the process; the same bytes in every process and thread that maps it. */
export function map(fd: Handle): ArrayBuffer {
  const { size: length } = fstatSync(fd.raw)
  const at = BigInt(libcMmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd.raw, 0))
  if (at === MAP_FAILED) check('mmap', -1)
  return view(at, length)
}

const libcWrite = libc.func('long write(int fd, uint8_t *bytes, size_t length)')

/** A file that holds a text for ever; whoever may open `/proc/PID/fd/N` of its owner can read it. */
export const textFile = (name: string, text: string): Fd => bytesFile(name, Buffer.from(text))

/** The same for bytes. */
export const bytesFile = (name: string, bytes: Uint8Array): Fd =>
  create(name, SIZED | F_SEAL_WRITE, (fd) => check('write', Number(libcWrite(fd.raw, bytes, bytes.length))))
