import { expect, test } from 'vitest'
import { lintProfile } from '../../src/filter/lint.ts'
import type { OciSeccomp } from '../../src/filter/oci.ts'

const notify = (...names: string[]): OciSeccomp => ({
  defaultAction: 'SCMP_ACT_ALLOW',
  listenerPath: '/run/a.sock',
  syscalls: [{ names, action: 'SCMP_ACT_NOTIFY' }],
})
const hangs = (name: string) => `SCMP_ACT_NOTIFY for ${name} hangs the runtime before it can hand over the listener`

test.each<{ what: string; profile: OciSeccomp; findings: string[] }>([
  { what: 'calls of ours', profile: notify('mknod', 'mount'), findings: [] },
  { what: 'a profile without notification', profile: { defaultAction: 'SCMP_ACT_ERRNO' }, findings: [] },
  {
    what: 'calls that a runtime needs',
    profile: notify('sendmsg', 'mknod', 'write', 'close', 'fcntl', 'write'),
    findings: ['sendmsg', 'write', 'close', 'fcntl'].map(hangs),
  },
  {
    what: 'an allowed write',
    profile: { defaultAction: 'SCMP_ACT_ERRNO', syscalls: [{ names: ['write'], action: 'SCMP_ACT_ALLOW' }] },
    findings: [],
  },
  {
    what: 'the default action',
    profile: { defaultAction: 'SCMP_ACT_NOTIFY' },
    findings: ['the default action must not be SCMP_ACT_NOTIFY, it hangs the runtime'],
  },
  {
    what: 'another agent',
    profile: { ...notify('socket'), listenerPath: '/run/other.sock' },
    findings: ['its listenerPath "/run/other.sock" is another agent\'s, and a container has one agent'],
  },
])('lintProfile() of $what', ({ profile, findings }) => expect(lintProfile(profile, '/run/a.sock')).toEqual(findings))
