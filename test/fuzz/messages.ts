import { PROXY_NOTIF } from '../../src/abi/lxc-proxy.ts'
import type { Random } from './random.ts'

type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** `containerProcessState`, as runtimes send it. */
const state = (random: Random): Json => ({
  ociVersion: '1.0.2',
  fds: ['seccompFd'],
  pid: random.of([process.pid, process.pid, 1, 0, 2, 4_194_304]),
  metadata: random.of(['', 'profile=none', 'security.syscalls.intercept.mknod=true', 'x', 'a=b\nc']),
  state: {
    ociVersion: '1.0.2',
    id: random.of(['c', 'd', 'x'.repeat(1024), 'a/../b', '\u0000']),
    status: random.of(['creating', 'running', 'stopped']),
    pid: 1,
    bundle: random.of(['/', '/no/such', '/proc/self/root', '']),
    annotations: { 'security.syscalls.intercept.mknod': 'true' },
  },
})

const strange = (random: Random): Json =>
  random.of<() => Json>([
    () => null,
    () => -1,
    () => 2 ** 53,
    () => 1e308,
    () => '',
    () => 'x'.repeat(random.below(70_000)),
    () => [],
    () => ({}),
    () => ({ __proto__: 1, constructor: 2 }) as unknown as Json,
    () => Array.from({ length: random.below(200) }, () => 'seccompFd'),
    () => JSON.parse(`${'['.repeat(500)}${']'.repeat(500)}`) as Json,
  ])()

/** The same with one member, somewhere in it, replaced or left out. */
function mutateJson(json: Json, random: Random): Json {
  if (typeof json !== 'object' || json === null || random.chance(15)) return strange(random)
  if (Array.isArray(json)) return json.map((each) => (random.chance(50) ? mutateJson(each, random) : each))
  const key = random.of(Object.keys(json))
  const { [key]: was = null, ...rest } = json
  return random.chance(25) ? rest : { ...rest, [key]: mutateJson(was, random) }
}

/** Some bytes flipped, cut off, or there twice. */
function mutateBytes(bytes: Buffer, random: Random): Buffer {
  const changed = Buffer.from(bytes)
  if (changed.length === 0) return changed
  for (let count = random.below(4); count > 0; count--) changed[random.below(changed.length)] = random.below(256)
  if (random.chance(30)) return changed.subarray(0, random.below(changed.length))
  return random.chance(15) ? Buffer.concat([changed, changed]) : changed
}

/** What a runtime that is mad, or worse, says. */
export function runtimeText(random: Random): Buffer {
  const good = state(random)
  switch (random.below(5)) {
    case 0:
      return random.bytes(random.below(20_000))
    case 1:
      return Buffer.from(JSON.stringify(good))
    case 2:
      return mutateBytes(Buffer.from(JSON.stringify(good)), random)
    default:
      return Buffer.from(JSON.stringify(mutateJson(good, random)) ?? '')
  }
}

const SIZES = [0, 1, 23, 24, 64, 79, 80, 81, 96, 1024, 1025, 65_535]
const LENGTHS = [0n, 1n, 4096n, 4097n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n]
/** Where the header says who speaks and how long everything is. */
const FIELDS = { monitor: 8, init: 12, notif: 16, resp: 18, data: 20, cookie: 24 } as const

/** A message of LXC's monitor with lies in it. */
export function monitorMessage(good: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(good)
  switch (random.below(6)) {
    case 0:
      return random.bytes(random.below(9000))
    case 1:
      return mutateBytes(bytes, random)
    case 2:
      bytes.writeUInt16LE(random.of(SIZES), random.of([FIELDS.notif, FIELDS.resp, FIELDS.data]))
      return bytes
    case 3:
      bytes.writeBigUInt64LE(random.of(LENGTHS), FIELDS.cookie)
      return bytes
    case 4:
      bytes.writeUInt32LE(random.of([0, 1, 2, process.pid, 0xffff_ffff]), random.of([FIELDS.monitor, FIELDS.init]))
      return bytes
    default:
      // The notification itself: id, thread, number, architecture, registers.
      for (let count = 1 + random.below(3); count > 0; count--)
        bytes[PROXY_NOTIF + random.below(80)] = random.below(256)
      return bytes
  }
}
