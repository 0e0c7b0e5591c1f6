import { readdirSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import type { SpawnGuard } from '../../../../src/engine/helpers/spawn-guard.ts'
import { Walkers } from '../../../../src/engine/helpers/walkers.ts'
import type { WalkerTable } from '../../../../src/engine/tables/walker-table.ts'
import { pipe } from '../../../../src/kernel/fd.ts'

// Only what was built has an id.
vi.mock('../../../../src/processes/build-id.ts', () => ({ build: '', requireOwnFiles: () => {} }))

test('a walker that cannot be started leaves no descriptor', () => {
  const table = { get: () => 'wanted', set: vi.fn() }
  const startHelper = (): never => {
    throw new Error('no process')
  }
  const fault = vi.fn()
  const walkers = new Walkers(table as unknown as WalkerTable, { startHelper } as unknown as SpawnGuard, fault)
  const { read: userns, write: pidns } = pipe()
  using _one = userns
  using _other = pidns
  walkers.admit(7, { userns, pidns })
  walkers.start(7)
  const before = readdirSync('/proc/self/fd').length
  for (let count = 0; count < 3; count++) walkers.start(7)
  expect(readdirSync('/proc/self/fd')).toHaveLength(before)
  expect(fault).toHaveBeenCalledTimes(4)
  expect(table.set).toHaveBeenLastCalledWith(7, 'none')
})
