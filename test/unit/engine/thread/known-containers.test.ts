import { MessageChannel } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { KnownContainers } from '../../../../src/engine/thread/known-containers.ts'

test('a changed policy reaches later calls, and leaves the container of a call in flight as it was', () => {
  const { port1, port2 } = new MessageChannel()
  const known = new KnownContainers(port2)
  const container = { index: 3, policy: { mknod: { devices: new Set() } } }
  port1.postMessage({ container })
  known.hear(1)
  const inFlight = known.containerAt(3)
  port1.postMessage({ container: { ...container, policy: {} } })
  expect(known.containerAt(3)).toBe(inFlight)
  known.hear(2)
  expect(known.containerAt(3).policy).toEqual({})
  expect(inFlight.policy).toHaveProperty('mknod')
  port1.close()
})
