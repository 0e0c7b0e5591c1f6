import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { type ContainerEntry, Registry } from '../../../../src/keeper/containers/registry.ts'
import { Records } from '../../../../src/keeper/log/records.ts'
import type { KeeperOptions } from '../../../../src/keeper/process/events.ts'
import { Fd } from '../../../../src/kernel/fd.ts'
import { memfd } from '../../../../src/kernel/shared-memory.ts'
import { formatRecords, RecordWriter, recordsSize } from '../../../../src/memories/records.ts'
import { defaults } from '../../../../src/policy/settings.ts'

type Told = readonly [id: string, hasEnded: boolean]

function world() {
  const ring = new ArrayBuffer(recordsSize(1024))
  formatRecords(ring)
  const registry = new Registry()
  const told: Told[] = []
  const onRecord: KeeperOptions['onRecord'] = (_, id, hasEnded) => told.push([id, hasEnded])
  const records = new Records(ring, registry, { onRecord, onEvent: () => {} } as unknown as KeeperOptions)
  const writer = new RecordWriter(ring, () => {})
  const start = (id: string): { readonly entry: ContainerEntry; readonly end: () => void } => {
    const handover = { id, creating: false, pid: 1, metadata: '', annotations: {}, bundle: '/nowhere' } as never
    const entry = registry.add(handover, { policy: {}, settings: defaults }, undefined)
    const listener = registry.hold(entry, new Fd(memfd('intercede-test', 1).release()), 'listener')
    return { entry, end: () => registry.release(listener) }
  }
  const write = ({ container: { index, serial } }: ContainerEntry): void =>
    writer.write({
      ...{ container: index, serial, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'act', errno: 0 },
      ...{ reason: 'done', a: 0, b: 0, microseconds: 1, time: 2 },
    })
  return { start, write, drain: () => records.drain(false), told }
}

test('a record that comes after the end of its container is told with its name, whoever has its number now', () => {
  const { start, write, drain, told } = world()
  const first = start('first')
  write(first.entry)
  first.end()
  const second = start('second')
  expect(second.entry.container.index).toBe(first.entry.container.index)
  write(second.entry)
  write(first.entry)
  drain()
  expect(told).toEqual([
    ['first', true],
    ['second', false],
    ['first', true],
  ])
})

test('a record of a container that nobody knows any more is told without a name, not with that of another', () => {
  const { start, write, drain, told } = world()
  const old = start('old')
  old.end()
  for (let count = 0; count < 256; count++) start(`later-${count}`).end()
  const now = start('now')
  expect(now.entry.container.index).toBe(old.entry.container.index)
  write(old.entry)
  drain()
  expect(told).toEqual([['', false]])
})
