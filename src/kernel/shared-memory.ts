import { fstatSync } from 'node:fs'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc, view } from './libc.ts'

const MFD_CLOEXEC = 1
const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_FAILED = 0xffff_ffff_ffff_ffffn

const libcMemfdCreate = libc.func('int memfd_create(uint8_t *name, uint32_t flags)')
const libcFtruncate = libc.func('int ftruncate(int fd, int64_t length)')
const libcMmap = libc.func('uintptr_t mmap(uintptr_t at, size_t length, int prot, int flags, int fd, int64_t offset)')

/** Memory without a name in any file system, zeroed, that other processes get as a descriptor. */
export function memfd(name: string, length: number): Fd {
  const fd = new Fd(check('memfd_create', libcMemfdCreate(cstring(name), MFD_CLOEXEC)))
  check('ftruncate', libcFtruncate(fd.raw, length))
  return fd
}

/** Maps all of a shared memory for the life of the process; the same bytes in every process and thread that maps it. */
export function map(fd: Handle): ArrayBuffer {
  const { size: length } = fstatSync(fd.raw)
  const at = BigInt(libcMmap(0, length, PROT_READ_WRITE, MAP_SHARED, fd.raw, 0))
  if (at === MAP_FAILED) check('mmap', -1)
  return view(at, length)
}

const libcWrite = libc.func('long write(int fd, uint8_t *bytes, size_t length)')

/** A file without a name that holds a text; whoever may open `/proc/PID/fd/N` of its owner can read it. */
export const textFile = (name: string, text: string): Fd => bytesFile(name, Buffer.from(text))

/** The same for bytes. */
export function bytesFile(name: string, bytes: Uint8Array): Fd {
  const fd = new Fd(check('memfd_create', libcMemfdCreate(cstring(name), MFD_CLOEXEC)))
  check('write', Number(libcWrite(fd.raw, bytes, bytes.length)))
  return fd
}
