import { describe, expect, test } from 'vitest'
import { exactJson, ociProcess, type ProcTexts } from '../../../../src/caller/fuse/oci-process.ts'
import type { Exec } from '../../../../src/calls/fuse.ts'
import { ContinueError } from '../../../../src/calls/verdict.ts'

const exec: Exec = { program: '/usr/bin/crun', options: [], env: {}, process: { env: ['PATH=/bin'] }, filters: 1 }
const maps = {
  uidMap: [{ inside: 0, outside: 100_000, count: 65_536 }],
  gidMap: [{ inside: 0, outside: 200_000, count: 65_536 }],
}

const status = (changes: Readonly<Record<string, string>> = {}): string =>
  Object.entries({
    Umask: '0027',
    Uid: '100000\t100000\t100000\t100000',
    Gid: '200007\t200007\t200007\t200007',
    Groups: '200001 200002 ',
    CapInh: '0000000000000000',
    CapPrm: '0000000000200001',
    CapEff: '0000000000200000',
    CapBnd: '0000000000200003',
    CapAmb: '0000000000000000',
    NoNewPrivs: '1',
    Seccomp: '2',
    Seccomp_filters: '1',
    ...changes,
  })
    .map(([label, value]) => `${label}:\t${value}\n`)
    .join('')

const limits = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 524288               files     
Max nice priority         0                    20                   
Max of a later kernel     1                    2                    things    
`
const told = (changes: Readonly<Record<string, string>> = {}): ProcTexts => ({
  status: status(changes),
  limits,
  oomScoreAdj: '-5\n',
  cwd: '/root',
})

describe('processSpec()', () => {
  // The kernel escapes line feeds and backslashes in a name, and nothing else.
  test.each([
    { name: 'x\rUid:\t100000' },
    { name: 'x\rGid:\t200000' },
    { name: 'x\rUmask:\t000' },
    { name: 'x\\nUid:\t100000' },
    { name: 'Uid:\t100000' },
  ])('the name $name tells nothing of its process', ({ name }) => {
    const own = { Umask: '0027', Uid: '100001\t100001\t100001\t100001', Gid: '200007\t200007\t200007\t200007' }
    const text = `Name:\t${name}\n${status(own)}`
    expect(ociProcess({ ...told(), status: text }, maps, exec).user).toMatchObject({ uid: 1, gid: 7, umask: 0o27 })
  })

  test('has what the caller has, in the ids of its container', () => {
    expect(ociProcess(told(), maps, exec)).toEqual({
      terminal: false,
      user: { uid: 0, gid: 7, additionalGids: [1, 2], umask: 0o27 },
      cwd: '/root',
      env: ['PATH=/bin'],
      capabilities: {
        bounding: ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SYS_ADMIN'],
        effective: ['CAP_SYS_ADMIN'],
        permitted: ['CAP_CHOWN', 'CAP_SYS_ADMIN'],
        inheritable: [],
        ambient: [],
      },
      noNewPrivileges: true,
      rlimits: [
        { type: 'RLIMIT_CPU', soft: 2n ** 64n - 1n, hard: 2n ** 64n - 1n },
        { type: 'RLIMIT_NOFILE', soft: 1024n, hard: 524288n },
        { type: 'RLIMIT_NICE', soft: 0n, hard: 20n },
      ],
      oomScoreAdj: -5,
    })
  })

  test('has the label of the container', () => {
    const process = { env: [], apparmorProfile: 'a', selinuxLabel: 'b' }
    expect(ociProcess(told(), maps, { ...exec, process })).toMatchObject({ apparmorProfile: 'a', selinuxLabel: 'b' })
  })

  test.each([
    { what: 'a filter of its own', changes: { Seccomp_filters: '2' }, code: 'fuseFilters' },
    { what: 'no filter that is told', changes: { Seccomp_filters: '' }, code: 'fuseFilters' },
    { what: 'another effective user', changes: { Uid: '101000\t100000\t100000\t100000' }, code: 'fuseIds' },
    { what: 'another group for files', changes: { Gid: '200007\t200007\t200007\t200008' }, code: 'fuseIds' },
    { what: 'a user of the host', changes: { Uid: '0\t0\t0\t0' }, code: 'fuseIds' },
    { what: 'a group of the host', changes: { Groups: '200001 44' }, code: 'fuseIds' },
  ])('passes on for a caller with $what', ({ changes, code }) => {
    const attempt = () => ociProcess(told(changes), maps, exec)
    expect(attempt).toThrow(ContinueError)
    expect(attempt).toThrow(code)
  })
})

test('exactJson() writes 64-bit numbers in full, and texts as they are', () => {
  expect(exactJson({ a: [2n ** 64n - 1n], b: '"\\u00001"' })).toBe(
    '{"a":[18446744073709551615],"b":"\\"\\\\u00001\\""}',
  )
})
