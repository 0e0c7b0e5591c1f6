import { expect, test } from 'vitest'
import { type LintFinding, lintProfile } from '../../../src/filter/lint.ts'
import type { OciRule, OciSeccomp } from '../../../src/filter/oci.ts'
import type { Target } from '../../../src/filter/target.ts'
import { crun } from '../../../src/runtimes/known/crun.ts'
import { runc } from '../../../src/runtimes/known/runc.ts'

const SOCKET = '/run/a.sock'
const allow: OciRule = { names: ['mknod', 'read'], action: 'SCMP_ACT_ALLOW' }
const trap = (...names: string[]): OciRule => ({ names, action: 'SCMP_ACT_NOTIFY' })
const profile = (...syscalls: OciRule[]): OciSeccomp => ({
  defaultAction: 'SCMP_ACT_ERRNO',
  listenerPath: SOCKET,
  flags: crun.target.flags,
  syscalls,
})
const { flags: _, ...flagless } = profile(trap('mknod'))
const { listenerPath: __, ...agentless } = profile(trap('mknod'))
const when = { args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }] }
const TSYNC = 'SECCOMP_FILTER_FLAG_TSYNC'
const RESTARTS = 'a signal restarts a call that is being served, and it may then find its own work (EEXIST)'

test.each<{ what: string; profile: OciSeccomp; target?: Target; findings: LintFinding[] }>([
  { what: 'calls of ours', profile: profile(trap('mknod', 'mount')), findings: [] },
  { what: 'a profile without notification', profile: { defaultAction: 'SCMP_ACT_ERRNO' }, findings: [] },
  { what: 'what crun calls around the hand-over', profile: profile(trap('sendmsg', 'write', 'close')), findings: [] },
  {
    what: 'write for runc, whose profiles have no flags either',
    profile: { ...flagless, syscalls: [trap('sendmsg', 'write', 'close')] },
    target: runc.target,
    findings: [
      { is: 'wrong', says: 'SCMP_ACT_NOTIFY for write would hang runc before it can hand over the listener' },
      { is: 'unwise', says: `profiles for runc have no flags: ${RESTARTS}` },
    ],
  },
  {
    what: 'an allowed write',
    profile: { defaultAction: 'SCMP_ACT_ERRNO', syscalls: [{ names: ['write'], action: 'SCMP_ACT_ALLOW' }] },
    target: runc.target,
    findings: [],
  },
  {
    what: 'a missing flag',
    profile: flagless,
    findings: [{ is: 'unwise', says: `the flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is missing: ${RESTARTS}` }],
  },
  {
    what: 'a flag that this kernel or runtime does not know',
    profile: profile(trap('mknod')),
    target: { ...crun.target, flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] },
    findings: [
      {
        is: 'wrong',
        says: 'crun or the kernel does not know SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, so no container starts with it here; take it out',
      },
    ],
  },
  {
    what: 'a flag that the kernel refuses beside a listener',
    profile: { ...profile(trap('mknod')), flags: [...crun.target.flags, TSYNC] },
    findings: [
      {
        is: 'wrong',
        says: `no container starts with ${TSYNC} and SCMP_ACT_NOTIFY: the kernel refuses the two together; take it out`,
      },
    ],
  },
  { what: 'the same flag without a listener', profile: { ...profile(allow), flags: [TSYNC] }, findings: [] },
  {
    what: 'flags for runc',
    profile: { ...profile(allow), flags: [TSYNC] },
    target: runc.target,
    findings: [
      { is: 'wrong', says: `not every runc takes a profile with flags, and this one has ${TSYNC}; take them out` },
    ],
  },
  {
    what: 'the default action',
    profile: { ...profile(), defaultAction: 'SCMP_ACT_NOTIFY' },
    findings: [{ is: 'wrong', says: 'the default action must not be SCMP_ACT_NOTIFY' }],
  },
  {
    what: 'another agent',
    profile: { ...profile(trap('socket')), listenerPath: '/run/other.sock' },
    findings: [
      {
        is: 'wrong',
        says: 'its listenerPath "/run/other.sock" is another agent\'s, and a container has one agent',
      },
    ],
  },
  {
    what: 'no agent',
    profile: agentless,
    findings: [
      {
        is: 'wrong',
        says: 'it has rules with SCMP_ACT_NOTIFY and no listenerPath: the runtime would find no agent',
      },
    ],
  },
  {
    what: 'a trap with conditions under an allow without',
    profile: profile({ ...trap('mknod'), ...when }, allow),
    findings: [
      {
        is: 'wrong',
        says: 'SCMP_ACT_NOTIFY for mknod never holds: SCMP_ACT_ALLOW without conditions beats it',
      },
    ],
  },
  {
    what: 'an errno with conditions over an allow without',
    profile: profile(allow, { names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 5, ...when }),
    findings: [
      { is: 'unwise', says: 'SCMP_ACT_ERRNO 5 for read never holds: SCMP_ACT_ALLOW without conditions beats it' },
    ],
  },
  {
    what: 'an errno without conditions that is the default, under traps with conditions',
    profile: profile({ ...trap('mknod'), ...when }, { names: ['mknod'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }),
    findings: [],
  },
  {
    what: 'the same errno, once without a number',
    profile: {
      ...profile(),
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['read'], action: 'SCMP_ACT_ERRNO' },
        { names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 1, ...when },
      ],
    },
    findings: [],
  },
  {
    what: 'an allow without conditions that a capability guards',
    profile: profile({ ...trap('mknod'), ...when }, { ...allow, includes: { caps: ['CAP_SYS_ADMIN'] } }),
    findings: [],
  },
])('lintProfile() of $what', ({ profile, target = crun.target, findings }) =>
  expect(lintProfile(profile, target, SOCKET)).toEqual(findings),
)
