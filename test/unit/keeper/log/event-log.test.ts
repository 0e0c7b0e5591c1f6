import { expect, test } from 'vitest'
import { logEvent } from '../../../../src/keeper/log/event-log.ts'
import { Log } from '../../../../src/keeper/log/log.ts'
import type { KeeperEvent } from '../../../../src/keeper/process/events.ts'
import { defaults, settle, toPolicy } from '../../../../src/policy/settings.ts'

const handover = { id: 'one', creating: true, pid: 7, bundle: '', annotations: {}, metadata: '' }
const registered = {
  ...{ type: 'registered' as const, handover, barred: undefined, unruly: undefined },
  resolved: { policy: {}, details: { keys: { mknod: 'true' } } },
}
const withheld = ['security.syscalls.intercept.mknod']

function logged(event: KeeperEvent): readonly string[] {
  const said: string[] = []
  logEvent(new Log('debug', false, { write: (line) => said.push(line), close: () => {} }), event)
  return said.map((line) => line.replace(/^\{"time":"[^"]*",/, '').trim())
}

test.each<[KeeperEvent, string]>([
  [
    { ...registered, withheld: [] },
    '"level":"info","message":"container","container":"one","process":7,"keys":{"mknod":"true"}}',
  ],
  [
    { type: 'resumed', id: 'one', annotations: {}, before: defaults, settings: defaults, policy: {} },
    '"level":"info","message":"container goes on","container":"one"}',
  ],
  [
    { type: 'set', id: 'one', by: 'root', who: { uid: 0, pid: 1 }, settings: defaults, changed: {} },
    '"level":"info","message":"nothing new was set","container":"one","by":"root","who":{"uid":0,"pid":1}}',
  ],
  [{ type: 'joined', handover }, '"level":"debug","message":"process joined","container":"one","process":7}'],
  [{ type: 'ended', id: 'one', barred: undefined }, '"level":"info","message":"container ended","container":"one"}'],
  [
    { type: 'ended', id: 'one', barred: 'unknownContainer' },
    '"level":"info","message":"process ended","container":"one"}',
  ],
  [
    { type: 'limit', id: 'one', limit: 'callsPerContainer', value: 3 },
    '"level":"debug","message":"calls have waited for others of their container","container":"one","callsPerContainer":3}',
  ],
  [{ type: 'refused', message: 'Cannot take it' }, '"level":"warn","message":"Cannot take it"}'],
  [
    { type: 'refused', message: 'Cannot take it', cause: 'failed', id: 'one', name: 'web' },
    '"level":"warn","message":"Cannot take it","container":"one","name":"web"}',
  ],
  [{ type: 'fault', message: 'Cannot go' }, '"level":"error","message":"Cannot go"}'],
  [{ type: 'engineStarted', pid: 9 }, '"level":"info","message":"the engine serves","engine":9}'],
  [
    { type: 'engineEnded', how: 'was ended by SIGKILL', cause: 'killed', pause: 0 },
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

test('logEvent() says no number of a process that is not known', () => {
  const unknown = { ...handover, pid: 0 }
  const [joined] = logged({ type: 'joined', handover: unknown })
  expect(joined).toBe('"level":"debug","message":"process joined","container":"one"}')
  const [container] = logged({ ...registered, handover: unknown, withheld: [] })
  expect(container).toBe('"level":"info","message":"container","container":"one","keys":{"mknod":"true"}}')
})

const MKNOD = 'security.syscalls.intercept.mknod'

test('logEvent() says what has changed for a container that goes on, and only that', () => {
  const settings = settle([['mknod', 'true', { kind: 'configuration' }]])
  const resumed = { type: 'resumed' as const, id: 'one', annotations: {}, settings, policy: toPolicy(settings) }
  expect(logged({ ...resumed, before: settings })).toEqual([
    '"level":"info","message":"container goes on","container":"one"}',
  ])
  expect(logged({ ...resumed, before: defaults })).toEqual([
    `"level":"notice","message":"container goes on","container":"one","changed":{"${MKNOD}":{"was":{"value":"false","origin":"default"},"is":{"value":"true","origin":"configuration"}}}}`,
  ])
  // The filter of a container that runs stays as it is.
  expect(logged({ ...resumed, before: defaults, traps: new Set(['sysinfo']) })[0]).toContain(
    '"is":{"value":"true","origin":"configuration","untrapped":"not trapped"}',
  )
})

test.each([
  { filter: 'one that traps it', traps: new Set(['mknod', 'mknodat']), says: 'true (configuration)' },
  { filter: 'one that traps another', traps: new Set(['sysinfo']), says: 'true (configuration), not trapped' },
  {
    filter: 'one that traps a part',
    traps: new Set(['mknod']),
    says: 'true (configuration), but mknodat not trapped',
  },
  { filter: 'one that is not known', traps: 'unknown' as const, says: 'true (configuration), perhaps not trapped' },
])('logEvent() says of each key whether the filter traps it: $filter', ({ traps, says }) => {
  const settings = settle([['mknod', 'true', { kind: 'configuration' }]])
  const resolved = { policy: toPolicy(settings), settings, details: {} }
  const [line] = logged({ ...registered, resolved, traps, withheld: [] })
  expect(JSON.parse(`{${line}`)).toMatchObject({ level: 'info', keys: { [MKNOD]: says } })
})

test('logEvent() warns of a container whose policy cannot work as a whole', () => {
  const [line] = logged({ ...registered, withheld })
  expect(line).toMatch(/^"level":"warn","message":"container","container":"one","process":7,"keys":.*"cannot":\["secur/)
})

test('logEvent() says that calls are left to the kernel where no engine is started at once', () => {
  const [line] = logged({ type: 'engineEnded', how: 'ended with status 1', cause: 'failed', pause: 30_000 })
  expect(line).toMatch(/the engine ended with status 1: engines fail .* the next one is tried","pause":30000\}$/)
})
