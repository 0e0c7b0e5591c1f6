import { expect, test } from 'vitest'
import { logEvent } from '../../../../src/keeper/log/event-log.ts'
import { Log } from '../../../../src/keeper/log/log.ts'
import type { KeeperEvent } from '../../../../src/keeper/process/events.ts'

const handover = { id: 'one', creating: true, pid: 7, bundle: '', annotations: {}, metadata: '' }
const registered = {
  ...{ type: 'registered' as const, handover, barred: undefined, unruly: undefined },
  resolved: { policy: {}, details: { keys: { mknod: 'true' } } },
}
const withheld = ['security.syscalls.intercept.mknod']

function logged(event: KeeperEvent): readonly string[] {
  const said: string[] = []
  logEvent(new Log('debug', (line) => said.push(line)), event)
  return said.map((line) => line.replace(/^\{"time":"[^"]*",/, '').trim())
}

test.each<[KeeperEvent, string]>([
  [
    { ...registered, withheld: [] },
    '"level":"info","message":"container","container":"one","process":7,"keys":{"mknod":"true"}}',
  ],
  [{ type: 'resumed', id: 'one' }, '"level":"info","message":"container goes on","container":"one"}'],
  [{ type: 'joined', handover }, '"level":"debug","message":"process joined","container":"one","process":7}'],
  [{ type: 'ended', id: 'one' }, '"level":"info","message":"container ended","container":"one"}'],
  [
    { type: 'limit', id: 'one', limit: 'callsPerContainer', value: 3 },
    '"level":"debug","message":"calls have waited for others of their container","container":"one","callsPerContainer":3}',
  ],
  [{ type: 'refused', message: 'Cannot take it' }, '"level":"warn","message":"Cannot take it"}'],
  [{ type: 'fault', message: 'Cannot go' }, '"level":"error","message":"Cannot go"}'],
  [{ type: 'engineStarted', pid: 9 }, '"level":"info","message":"the engine serves","engine":9}'],
  [
    { type: 'engineEnded', how: 'was ended by SIGKILL', pause: 0 },
    '"level":"error","message":"the engine was ended by SIGKILL: another one takes over its calls"}',
  ],
  [
    { type: 'program', id: 'one', program: 'fuse2fs', reason: 'fuseNoRuntime', words: 'no' },
    '"level":"warn","message":"a program in a container failed","container":"one","program":"fuse2fs","reason":"fuseNoRuntime","words":"no"}',
  ],
  [
    { type: 'recordsLost', count: 2 },
    '"level":"warn","message":"records were lost: calls came faster than they could be logged","count":2}',
  ],
])('logEvent() writes one line for an event of type $type', (event, line) => {
  expect(logged(event)).toEqual([line])
})

test('logEvent() warns of a container whose policy cannot work as a whole', () => {
  const [line] = logged({ ...registered, withheld })
  expect(line).toMatch(/^"level":"warn","message":"container","container":"one","process":7,"keys":.*"cannot":\["secur/)
})

test('logEvent() says that calls are left to the kernel where no engine is started at once', () => {
  const [line] = logged({ type: 'engineEnded', how: 'ended with status 1', pause: 30_000 })
  expect(line).toMatch(/the engine ended with status 1: engines fail .* the next one is tried","pause":30000\}$/)
})
