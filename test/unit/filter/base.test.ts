import { describe, expect, test } from 'vitest'
import { resolveGuards } from '../../../src/filter/base.ts'
import type { OciGuard, OciSeccomp } from '../../../src/filter/oci.ts'

const circumstances = { caps: new Set(['CAP_A', 'CAP_B']), arch: 'amd64', kernel: [5, 4] } as const

describe('resolveGuards()', () => {
  test.each<{ includes?: OciGuard; excludes?: OciGuard; used: boolean }>([
    { used: true },
    { includes: {}, excludes: {}, used: true },
    { includes: { caps: ['CAP_A'] }, used: true },
    { includes: { caps: ['CAP_A', 'CAP_C'] }, used: false },
    { excludes: { caps: ['CAP_C'] }, used: true },
    { excludes: { caps: ['CAP_C', 'CAP_B'] }, used: false },
    { includes: { arches: ['arm64', 'amd64'] }, used: true },
    { includes: { arches: ['arm64'] }, used: false },
    { excludes: { arches: ['amd64'] }, used: false },
    { includes: { minKernel: '4.8' }, used: true },
    { includes: { minKernel: '5.4' }, used: true },
    { includes: { minKernel: '5.10' }, used: false },
  ])('uses a rule with $includes and without $excludes: $used', ({ used, ...guards }) => {
    const base: OciSeccomp = {
      defaultAction: 'A',
      syscalls: [{ names: ['n'], action: 'B', args: [], comment: '', ...guards }],
    }
    expect(resolveGuards(base, 'X', circumstances).syscalls).toEqual(used ? [{ names: ['n'], action: 'B' }] : [])
  })

  test('takes the architectures of this machine', () => {
    const archMap = [
      { architecture: 'OTHER', subArchitectures: ['X'] },
      { architecture: 'X', subArchitectures: ['X32'] },
    ]
    expect(
      resolveGuards({ defaultAction: 'A', defaultErrno: 'EPERM', defaultErrnoRet: 1, archMap }, 'X', circumstances),
    ).toEqual({
      defaultAction: 'A',
      defaultErrnoRet: 1,
      architectures: ['X', 'X32'],
      syscalls: [],
    })
  })
})
