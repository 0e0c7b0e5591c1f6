import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import * as attr from '../../../src/abi/bpf.ts'
import { _LINUX_CAPABILITY_VERSION_3, capMask, capNumber } from '../../../src/abi/credentials.ts'
import * as fcntl from '../../../src/abi/fcntl.ts'
import * as tty from '../../../src/abi/ioctl.ts'
import * as mount from '../../../src/abi/mount.ts'
import { MOUNT_ATTR_SIZE } from '../../../src/abi/mount.ts'
import * as kcmp from '../../../src/abi/process.ts'
import * as namespace from '../../../src/abi/process.ts'
import * as prctl from '../../../src/abi/process.ts'
import * as signal from '../../../src/abi/process.ts'
import * as seccomp from '../../../src/abi/seccomp.ts'
import * as poll from '../../../src/abi/socket.ts'
import * as socket from '../../../src/abi/socket.ts'
import * as magic from '../../../src/abi/stat.ts'
import * as stat from '../../../src/abi/stat.ts'
import { MISC_MAJOR } from '../../../src/abi/stat.ts'
import { architectures, ownSyscalls } from '../../../src/abi/syscalls.ts'
import * as mman from '../../../src/abi/system.ts'
import * as procmap from '../../../src/abi/system.ts'
import * as limits from '../../../src/abi/system.ts'
import * as time from '../../../src/abi/system.ts'
import { fixture, missing, no32 } from '../../support/fixtures.ts'
import { encodeNotification } from '../../support/seccomp-codecs.ts'
import { withReason } from '../../support/skipped.ts'

interface Layout {
  readonly sizes: Record<string, number>
  readonly offsets: Record<string, number>
  readonly constants: Record<string, number>
  readonly syscalls: Record<string, number>
}

const absent = missing('gcc') ?? (process.env.INTERCEDE_LACKS && 'INTERCEDE_LACKS changes numbers')
const layout = (...flags: string[]): Layout =>
  JSON.parse(execFileSync(fixture('layout', flags), { encoding: 'utf8' })) as Layout

/** What both know, as [name, ours, theirs]: headers may be older than we are. */
const shared = (ours: Record<string, unknown>, theirs: Record<string, number>) =>
  Object.entries(ours)
    .filter(([name]) => name in theirs)
    .map(([name, value]) => [name, value, theirs[name]] as const)

describe.skipIf(absent)(withReason('abi/ and the C compiler agree', absent), () => {
  const c = absent ? undefined! : layout()

  test('on sizes', () => {
    const ours = {
      seccomp_notif: seccomp.SECCOMP_NOTIF_SIZE,
      seccomp_notif_resp: seccomp.SECCOMP_NOTIF_RESP_SIZE,
      seccomp_notif_addfd: seccomp.SECCOMP_NOTIF_ADDFD_SIZE,
      // kernel/ lays these out by hand
      msghdr: 56,
      cmsghdr: 16,
      ucred: 12,
      open_how: 24,
      mount_attr: MOUNT_ATTR_SIZE,
      epoll_event: process.arch === 'x64' ? 12 : 16,
    }
    expect(c.sizes).toMatchObject(ours)
  })

  test('on the constants of seccomp and of files', () => {
    const ours = { ...seccomp, ...fcntl }
    const both = shared(ours, c.constants)
    expect(both.length).toBeGreaterThan(Object.keys(fcntl).length)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
  })

  /** Headers may be older than what these name, which the tests on the kernel hold. */
  test.each(
    Object.entries({
      ...{ kcmp, limits, magic, mman, namespace, poll, procmap, signal, socket, stat, time, tty },
      others: { _LINUX_CAPABILITY_VERSION_3, MISC_MAJOR },
    }),
  )('on the constants of %s', (_, ours: Record<string, unknown>) => {
    const both = shared(ours, c.constants)
    expect(both.length).toBeGreaterThan(0)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
  })

  test('on the constants of mounts', () => {
    const both = shared(mount, c.constants)
    expect(both.length).toBeGreaterThan(30)
    for (const [name, our, their] of both) expect([name, Number(our)]).toEqual([name, their])
  })

  test('on where the members of a notification and of an answer stand', () => {
    const bytes = new DataView(new ArrayBuffer(80))
    encodeNotification(bytes, {
      id: 1n,
      tid: 2 as never,
      nr: 3,
      arch: 4,
      ip: 5n,
      args: [6n, 7n, 8n, 9n, 10n, 11n],
    })
    const data = c.offsets['seccomp_notif.data']!
    expect(bytes.getBigUint64(c.offsets['seccomp_notif.id']!, true)).toBe(1n)
    expect(bytes.getUint32(c.offsets['seccomp_notif.pid']!, true)).toBe(2)
    expect(bytes.getInt32(data + c.offsets['seccomp_data.nr']!, true)).toBe(3)
    expect(bytes.getUint32(data + c.offsets['seccomp_data.arch']!, true)).toBe(4)
    expect(bytes.getBigUint64(data + c.offsets['seccomp_data.instruction_pointer']!, true)).toBe(5n)
    expect(bytes.getBigUint64(data + c.offsets['seccomp_data.args']! + 40, true)).toBe(11n)

    const answer = new DataView(new ArrayBuffer(24))
    seccomp.encodeResponse(answer, { id: 1n, value: 2n, error: -3, flags: 4 })
    expect(answer.getBigUint64(c.offsets['seccomp_notif_resp.id']!, true)).toBe(1n)
    expect(answer.getBigInt64(c.offsets['seccomp_notif_resp.val']!, true)).toBe(2n)
    expect(answer.getInt32(c.offsets['seccomp_notif_resp.error']!, true)).toBe(-3)
    expect(answer.getUint32(c.offsets['seccomp_notif_resp.flags']!, true)).toBe(4)

    const addfd = new DataView(new ArrayBuffer(24))
    seccomp.encodeAddfd(addfd, { id: 1n, flags: 2, srcfd: 3, newfd: 4, newfdFlags: 5 })
    for (const [member, value] of Object.entries({ flags: 2, srcfd: 3, newfd: 4, newfd_flags: 5 })) {
      expect([member, addfd.getUint32(c.offsets[`seccomp_notif_addfd.${member}`]!, true)]).toEqual([member, value])
    }
  })

  test('on the argument of bpf(2), what is told of objects, and their constants', () => {
    const names = {
      ...{ type: 'prog_type', count: 'insn_cnt', instructions: 'insns', licence: 'license', logLevel: 'log_level' },
      ...{ logSize: 'log_size', log: 'log_buf', kernVersion: 'kern_version', flags: 'prog_flags', name: 'prog_name' },
      ...{ expectedAttachType: 'expected_attach_type', logTrueSize: 'log_true_size' },
    }
    const ours: [Readonly<Record<string, number>>, Readonly<Record<string, string>>][] = [
      [attr.LOAD, names],
      [
        attr.ATTACH,
        {
          ...{ target: 'target_fd', program: 'attach_bpf_fd', type: 'attach_type', flags: 'attach_flags' },
          replace: 'replace_bpf_fd',
        },
      ],
      [
        attr.QUERY,
        {
          ...{ target: 'query.target_fd', type: 'query.attach_type', queryFlags: 'query.query_flags' },
          ...{ attachFlags: 'query.attach_flags', ids: 'query.prog_ids', count: 'query.prog_cnt' },
          ...{ flagsOfEach: 'query.prog_attach_flags', revision: 'query.revision' },
        },
      ],
      [attr.BY_ID, { id: 'prog_id' }],
      [attr.INFO, { object: 'info.bpf_fd', length: 'info.info_len', info: 'info.info' }],
      [
        attr.LINK,
        {
          ...{ program: 'link_create.prog_fd', target: 'link_create.target_fd' },
          ...{ type: 'link_create.attach_type', flags: 'link_create.flags' },
        },
      ],
      [
        attr.UPDATE,
        {
          ...{ link: 'link_update.link_fd', program: 'link_update.new_prog_fd' },
          ...{ flags: 'link_update.flags', old: 'link_update.old_prog_fd' },
        },
      ],
    ]
    for (const [members, their] of ours) {
      for (const [name, at] of Object.entries(members))
        expect([name, at]).toEqual([name, c.offsets[`bpf_attr.${their[name]}`]])
    }
    expect(attr.PROG_INFO).toEqual({
      id: c.offsets['bpf_prog_info.id'],
      loadTime: c.offsets['bpf_prog_info.load_time'],
    })
    expect(attr.LINK_INFO).toEqual({
      ...{
        type: c.offsets['bpf_link_info.type'],
        id: c.offsets['bpf_link_info.id'],
        program: c.offsets['bpf_link_info.prog_id'],
      },
      cgroup: c.offsets['bpf_link_info.cgroup.cgroup_id'],
      attachType: c.offsets['bpf_link_info.cgroup.attach_type'],
    })
    const commands = Object.fromEntries(Object.entries(attr.BPF).map(([name, value]) => [`BPF_${name}`, value]))
    const both = shared({ ...attr, ...commands }, c.constants)
    expect(both.length).toBe(18)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
  })

  test('on the options of prctl', () => {
    const both = shared({ ...prctl }, c.constants)
    expect(both.length).toBe(24)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
  })

  test('on the numbers of capabilities', () => {
    expect(capNumber('MKNOD')).toBe(c.constants.CAP_MKNOD)
    expect(capNumber('SYS_ADMIN')).toBe(c.constants.CAP_SYS_ADMIN)
    expect(capNumber('CHECKPOINT_RESTORE')).toBe(c.constants.CAP_CHECKPOINT_RESTORE)
    expect(capMask('BPF')).toBe(1n << BigInt(c.constants.CAP_BPF!))
  })

  const foreign = process.arch === 'x64' ? undefined : `this machine is ${process.arch}`
  test.skipIf(foreign)(withReason('on the system calls of x86_64', foreign), () => {
    const both = [...shared(architectures.x86_64.numbers, c.syscalls), ...shared(ownSyscalls('x64'), c.syscalls)]
    expect(both.length).toBeGreaterThan(25)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
    expect(architectures.x86_64.audit).toBe(c.constants.AUDIT_ARCH_X86_64)
    expect(architectures.i386.audit).toBe(c.constants.AUDIT_ARCH_I386)
    expect(architectures.aarch64.audit).toBe(c.constants.AUDIT_ARCH_AARCH64)
    expect(architectures.arm.audit).toBe(c.constants.AUDIT_ARCH_ARM)
  })

  test.skipIf(no32)(withReason('on the system calls of i386', no32), () => {
    const both = shared(architectures.i386.numbers, layout('-m32').syscalls)
    expect(both.length).toBeGreaterThan(15)
    for (const [name, our, their] of both) expect([name, our]).toEqual([name, their])
  })
})
