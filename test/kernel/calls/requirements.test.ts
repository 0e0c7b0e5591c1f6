import { expect, test } from 'vitest'
import type { Errno } from '../../../src/abi/brand.ts'
import { PROC_USER_INIT_INO } from '../../../src/abi/process.ts'
import { SyscallError } from '../../../src/kernel/error.ts'
import { requireKernel, requireUserNamespace } from '../../../src/processes/requirements.ts'

test('this kernel has what serve takes', () => {
  expect(() => requireKernel()).not.toThrow()
})

test('a kernel without notification: one sentence that says what it takes', () => {
  const old = (): never => {
    throw new SyscallError('seccomp', 22 as Errno)
  }
  expect(() => requireKernel(old, 0)).toThrow(/no seccomp user notification; Intercede requires Linux 5/)
})

test('a kernel whose structs grew is not guessed at', () => {
  expect(() => requireKernel(() => [96, 24, 64], 0)).toThrow(/96 bytes/)
})

test('serve is for the user namespace of the host, serve --user for any other', () => {
  expect(() => requireUserNamespace(false)).not.toThrow()
  expect(() => requireUserNamespace(true)).toThrow(/podman unshare intercede serve --user/)
  expect(() => requireUserNamespace(true, PROC_USER_INIT_INO + 1)).not.toThrow()
  expect(() => requireUserNamespace(false, PROC_USER_INIT_INO + 1)).toThrow(
    /use --user to serve sysinfo and mount.fuse/,
  )
})
