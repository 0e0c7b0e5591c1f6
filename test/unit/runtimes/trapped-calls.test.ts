import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { policyFile, trappedCalls } from '../../../src/runtimes/bundle.ts'

const directory = mkdtempSync(join(tmpdir(), 'intercede-traps-'))
afterAll(() => rmSync(directory, { recursive: true }))

const handover = { id: 'one', creating: true, pid: 7, bundle: '', annotations: {}, metadata: '' }
const rule = (action: string, ...names: string[]) => ({ names, action: `SCMP_ACT_${action}` })
const of = (syscalls: unknown): object => ({ linux: { seccomp: { defaultAction: 'SCMP_ACT_ALLOW', syscalls } } })

test.each([
  {
    what: 'rules',
    config: of([rule('NOTIFY', 'mknod', 'mknodat'), rule('ALLOW', 'read')]),
    traps: ['mknod', 'mknodat'],
  },
  { what: 'no rule that notifies', config: of([rule('ALLOW', 'read')]), traps: undefined },
  { what: 'no filter', config: { linux: {} }, traps: undefined },
  { what: 'rubbish', config: of([{ names: 'mknod' }]), traps: undefined },
])('trappedCalls() of a bundle with $what', ({ config, traps }) => {
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  expect(trappedCalls({ ...handover, bundle: directory })).toEqual(traps && new Set(traps))
})

test('trappedCalls() of no bundle at all', () => expect(trappedCalls(handover)).toBeUndefined())

test('trappedCalls() of a container of LXC, as its monitor sees the files', () => {
  writeFileSync(join(directory, 'config'), 'lxc.seccomp.profile = /policy\n')
  writeFileSync(join(directory, 'policy'), '2\ndenylist\nreject_force_umount\n[all]\nsysinfo notify\nbpf errno 1\n')
  const lxcConfig = { root: directory, file: '/config' }
  expect(trappedCalls({ ...handover, lxcConfig })).toEqual(new Set(['sysinfo']))
  expect(trappedCalls({ ...handover, lxcConfig: { root: directory, file: '/none' } })).toBeUndefined()
})

test.each([
  { config: 'lxc.seccomp.profile = /a\n', file: '/a' },
  { config: 'lxc.seccomp.profile=/a\n  lxc.seccomp.profile =  /b  \n', file: '/b' },
  { config: 'lxc.include = /i\nlxc.seccomp.profile = /a\n', file: '/a' },
  { config: 'lxc.seccomp.profile = /a\nlxc.include = /i\n', file: undefined },
  { config: '# lxc.seccomp.profile = /a\nlxc.seccomp.profile.x = /b\n', file: undefined },
  { config: 'lxc.seccomp.profile = none\n', file: undefined },
  { config: '', file: undefined },
])('policyFile($config) is $file', ({ config, file }) => expect(policyFile(config)).toBe(file))
