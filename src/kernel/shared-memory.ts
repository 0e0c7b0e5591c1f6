import { fchmodSync, fstatSync } from 'node:fs'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, O_RDONLY } from '../abi/fcntl.ts'
import {
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  MAP_FAILED,
  MAP_SHARED,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MFD_NOEXEC_SEAL,
  PROT_READ,
  PROT_WRITE,
} from '../abi/system.ts'
import { addSeals, Fd, guarded, type Handle } from './fd.ts'
import { openat } from './files.ts'
import { check, cstring, lastErrno, libc, view } from './libc.ts'

/** Seals which fix the size: if another process could truncate the file, our mapping of it would kill us by SIGBUS. */
const SIZED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL

const libcMemfdCreate = libc.func('int memfd_create(uint8_t *name, uint32_t flags)')
const libcFtruncate = libc.func('int ftruncate(int fd, int64_t length)')
const libcMmap = libc.func('uintptr_t mmap(uintptr_t at, size_t length, int prot, int flags, int fd, int64_t offset)')

/**
 * Makes a memfd that only its owner can open again. memfd_create(2) gives it mode 0777 or 0666, and a process with a
 * read-only descriptor could open it by `/proc/PID/fd` for all that the mode allows.
 *
 * @param seals added after `fill`
 * @param fill gives the file its final length
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

/** Makes a memfd which can never be executed, if the kernel knows MFD_NOEXEC_SEAL. */
function createUnsealed(name: Uint8Array): number {
  const usual = MFD_CLOEXEC | MFD_ALLOW_SEALING
  const made: number = libcMemfdCreate(name, usual | MFD_NOEXEC_SEAL)
  return made < 0 && lastErrno() === errnos.EINVAL ? libcMemfdCreate(name, usual) : made
}

/** Lets only the owner open such a file again. */
export const restrict = (fd: Handle): void => fchmodSync(fd.raw, 0o600)

/** Makes zeroed memory that other processes can get as a descriptor. @param length in bytes */
export const memfd = (name: string, length: number): Fd =>
  create(name, SIZED, (fd) => check('ftruncate', libcFtruncate(fd.raw, length)))

/** Opens a memory anew, for reading only: the descriptor may be given to other users. */
export const readOnly = (fd: Handle): Fd => openat(AT_FDCWD, cstring(`/proc/self/fd/${fd.raw}`), O_RDONLY)

/** Maps a whole memfd for the life of the process; every process and thread that maps it has the same bytes. */
export function map(fd: Handle): ArrayBuffer {
  const { size: length } = fstatSync(fd.raw)
  const at = BigInt(libcMmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd.raw, 0))
  if (at === MAP_FAILED) check('mmap', -1)
  return view(at, length)
}

const libcFallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')

/** Zeroes whole pages of a memfd and gives them back, for every process that has mapped them. */
export const zeroPages = (fd: Handle, offset: number, length: number): void => {
  check('fallocate', libcFallocate(fd.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length))
}

const libcWrite = libc.func('long write(int fd, uint8_t *bytes, size_t length)')

/** Makes a memfd with an unchangeable text; a process that may open `/proc/PID/fd/N` of its owner can read it. */
export const textFile = (name: string, text: string): Fd => bytesFile(name, Buffer.from(text))

/** Makes a memfd with unchangeable bytes. */
export const bytesFile = (name: string, bytes: Uint8Array): Fd =>
  create(name, SIZED | F_SEAL_WRITE, (fd) => check('write', Number(libcWrite(fd.raw, bytes, bytes.length))))
