import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Daemon } from '../../support/daemon.ts'
import { until } from '../../support/host.ts'
import {
  type Creation,
  creation,
  field,
  fieldsOf,
  frame,
  NriRuntime,
  numberField,
  type Plugin,
  partOf,
  rule,
  ttrpc,
} from '../../support/nri-runtime.ts'

const NAME = 'intercede.io/profile'
/** What a runtime reports for RuntimeDefault, in short: mknod is allowed, mount is not, clone3 does not exist. */
const DEFAULT = Buffer.concat([
  field(1, 'SCMP_ACT_ERRNO'),
  field(3, 'SCMP_ARCH_X86_64'),
  field(3, 'SCMP_ARCH_X86'),
  rule('SCMP_ACT_ALLOW', ['read', 'mknod', 'mknodat']),
  rule('SCMP_ACT_ERRNO', ['clone3'], field(3, numberField(1, 38))),
  rule(
    'SCMP_ACT_ALLOW',
    ['socket'],
    field(4, numberField(1, 1), numberField(2, 0xffff_ffff_ffff_fff0n), field(4, 'SCMP_CMP_MASKED_EQ')),
  ),
])

const directory = mkdtempSync(join(tmpdir(), 'intercede-nri-'))
const runtime = new NriRuntime(join(directory, 'nri.sock'))
const silent = new NriRuntime(join(directory, 'silent.sock'))
const configuration = (more = ''): string => `
profiles: { nodes: { mknod: true }, xattrs: { setxattr: true }, off: { mknod: false } }
nri: { socket: ${runtime.path}, namespaces: { apps: [nodes, off], '*': [xattrs], none: []${more} } }
`
let daemon: Daemon
/** Waits for a runtime that never answers. */
let waiting: Daemon
let plugin: Plugin

beforeAll(async () => {
  await silent.start()
  waiting = await Daemon.start(`nri: { socket: ${silent.path} }`)
  daemon = await Daemon.start(configuration())
  // The runtime comes after the daemon.
  await until('the daemon says that there is none', () => said('is not registered') === 1, 10)
  await runtime.start()
  plugin = await runtime.next()
})
afterAll(async () => {
  for (const each of [daemon, waiting]) await each?.close()
  for (const each of [runtime, silent]) await each.stop()
  rmSync(directory, { recursive: true })
})

const said = (text: string): number => daemon.log.filter(({ message }) => String(message).includes(text)).length
const create = (given: Creation = {}) =>
  plugin.ask('CreateContainer', creation({ annotations: { [NAME]: 'nodes' }, profile: 0, policy: DEFAULT, ...given }))
/** The seccomp policy of an answer: CreateContainerResponse.adjust.linux.seccomp_policy. */
const policyIn = (payload: Buffer): Buffer => partOf(partOf(partOf(payload, 1), 6), 6)

test('the plugin registers with these bytes, and wants these events', async () => {
  const request = Buffer.concat([
    field(1, 'nri.pkg.api.v1alpha1.Runtime'),
    field(2, 'RegisterPlugin'),
    field(3, field(1, 'intercede'), field(2, '90')),
  ])
  expect(plugin.sent.subarray(0, 18 + request.length)).toEqual(frame(2, ttrpc(1, 1, request)))
  const older = Buffer.concat([field(2, 'containerd'), field(3, 'v2.3.4')])
  const { payload } = await plugin.ask('Configure', Buffer.concat([older, field(6, 'v0.12.0')]))
  // CREATE_CONTAINER is event 4, VALIDATE_CONTAINER_ADJUSTMENT event 14.
  expect(payload).toEqual(numberField(2, (1 << 3) | (1 << 13)))
  expect((await plugin.ask('Configure', older)).payload).toEqual(numberField(2, 1 << 3))
  expect(daemon.log).toContainEqual(
    expect.objectContaining({
      message: 'the NRI plugin is registered',
      socket: runtime.path,
      runtime: 'containerd v2.3.4',
    }),
  )
})

test('it takes a synchronisation in parts, of requests of any length', async () => {
  const pods = Buffer.concat(Array.from({ length: 20_000 }, (_, id) => field(1, field(1, `pod-${id}`), field(2, 'x'))))
  expect(await plugin.ask('Synchronize', Buffer.concat([pods, numberField(3, 1)]))).toMatchObject({
    code: 0,
    payload: numberField(2, 1),
  })
  expect(await plugin.ask('Synchronize', pods)).toMatchObject({ code: 0, payload: Buffer.alloc(0) })
})

test('it does nothing for a container whose Pod names no profile', async () => {
  expect(await create({ annotations: { other: 'nodes' } })).toMatchObject({ code: 0, payload: Buffer.alloc(0) })
})

test('it lays the rules of the profile on the policy of the runtime, with these bytes', async () => {
  const { payload, code } = await create()
  expect(code).toBe(0)
  const notify = (name: string, argument: number, type: number) =>
    rule(
      'SCMP_ACT_NOTIFY',
      [name],
      field(4, numberField(1, argument), numberField(2, 0xb000), numberField(3, type), field(4, 'SCMP_CMP_MASKED_EQ')),
    )
  const fields = fieldsOf(policyIn(payload))
  const texts = (number: number) => fields.filter(([each]) => each === number).map(([, value]) => String(value))
  expect(texts(1)).toEqual(['SCMP_ACT_ERRNO'])
  expect(texts(3)).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'])
  expect(texts(5)).toEqual([daemon.socket])
  expect(texts(6)).toEqual(['profile=nodes\n'])
  const rules = fields.filter(([each]) => each === 7).map(([, value]) => field(7, value as Buffer))
  // S_IFCHR and S_IFBLK: 0x2000 without 0x4000, in which they differ. The mode is argument 1 of mknod, 2 of mknodat.
  expect(rules.slice(0, 2)).toEqual([notify('mknod', 1, 0x2000), notify('mknodat', 2, 0x2000)])
  // Whatever is not trapped is as it was: errno, a value of 64 bits, and what is left of the rule for mknod.
  expect(rules).toContainEqual(rule('SCMP_ACT_ERRNO', ['clone3'], field(3, numberField(1, 38))))
  expect(rules).toContainEqual(
    rule(
      'SCMP_ACT_ALLOW',
      ['socket'],
      field(4, numberField(1, 1), numberField(2, 0xffff_ffff_ffff_fff0n), field(4, 'SCMP_CMP_MASKED_EQ')),
    ),
  )
  expect(rules).toContainEqual(rule('SCMP_ACT_ALLOW', ['read']))
})

test('a request may come in pieces, and a long answer goes in frames of at most 4,096 bytes', async () => {
  const names = Array.from({ length: 3000 }, (_, index) => `no_such_call_${index}`)
  const policy = Buffer.concat([DEFAULT, rule('SCMP_ACT_ALLOW', names)])
  const request = creation({ annotations: { [NAME]: 'nodes' }, profile: 0, policy })
  const answer = await plugin.ask('CreateContainer', request, 1000)
  expect(answer).toMatchObject({ code: 0, frame: 4096 })
  expect(policyIn(answer.payload).includes(Buffer.from('no_such_call_2999'))).toBe(true)
})

test('an annotation for one container holds instead of that for all', async () => {
  const annotations = { [NAME]: 'nodes', 'web.container.intercede.io/profile': 'xattrs' }
  const metadata = async (name: string) => String(partOf(policyIn((await create({ annotations, name })).payload), 6))
  expect(await metadata('web')).toBe('profile=xattrs\n')
  expect(await metadata('other')).toBe('profile=nodes\n')
})

test('an Unconfined container gets the rules alone', async () => {
  const { payload } = await plugin.ask('CreateContainer', creation({ annotations: { [NAME]: 'nodes' }, profile: 1 }))
  expect(String(partOf(policyIn(payload), 1))).toBe('SCMP_ACT_ALLOW')
})

const listener = field(5, '/run/other.sock')
test.each<[string, Creation, string]>([
  [
    'a name that the node does not have',
    { annotations: { [NAME]: 'node' } },
    'no such profile (did you mean "nodes"?)',
  ],
  [
    'a name that its namespace may not use',
    { namespace: 'shop' },
    'not allow it in the namespace "shop" on this node; it may use xattrs',
  ],
  ['no user namespace', { namespaces: ['pid', 'mount'] }, 'set hostUsers: false'],
  ['a second listener', { policy: Buffer.concat([DEFAULT, listener]) }, 'a container has one listener'],
  [
    'rules that notify',
    { policy: Buffer.concat([DEFAULT, rule('SCMP_ACT_NOTIFY', ['bpf'])]) },
    'SCMP_ACT_NOTIFY and no listenerPath',
  ],
  ['a Localhost policy', { profile: 2 }, 'its seccompProfile is Localhost'],
  ['a profile that traps nothing', { annotations: { [NAME]: 'off' } }, 'no key of it is on'],
  [
    'a long name',
    { annotations: { [NAME]: `${'x'.repeat(9000)}\u001b[2J` } },
    '... (9004 characters): the configuration',
  ],
  ['a name of JavaScript', { annotations: { [NAME]: '__proto__' } }, 'no such profile'],
])('it refuses %s, and says why', async (_, given, why) => {
  const { code, message, payload } = await create(given)
  expect({ code, payload }).toEqual({ code: 9, payload: Buffer.alloc(0) })
  expect(message).toMatch(/^Intercede: Cannot give container "web" of Pod "\w+\/pod-1" the profile "/)
  expect(message).toContain(why)
  expect(message.length).toBeLessThan(600)
  await until('the log says so too', () => said(why) > 0, 5)
})

test('it refuses RuntimeDefault if the runtime does not report the policy', async () => {
  const request = creation({ annotations: { [NAME]: 'nodes' }, profile: 0 })
  expect((await plugin.ask('CreateContainer', request)).message).toContain('containerd 2.3 or later')
  const older = creation({ annotations: { [NAME]: 'nodes' } })
  expect((await plugin.ask('CreateContainer', older)).message).toContain('containerd 2.3 or later')
})

test('it lets no container pass that names a profile and has none of its policy', async () => {
  const validate = (annotations: Creation['annotations'], adjust: Buffer) =>
    plugin.ask('ValidateContainerAdjustment', Buffer.concat([creation({ annotations: annotations! }), adjust]))
  const ours = field(3, field(6, field(6, field(5, daemon.socket))))
  expect((await validate({ [NAME]: 'nodes' }, ours)).payload).toEqual(Buffer.alloc(0))
  expect((await validate({}, Buffer.alloc(0))).payload).toEqual(Buffer.alloc(0))
  expect(fieldsOf((await validate({ [NAME]: 'nodes' }, Buffer.alloc(0))).payload)[0]).toEqual([1, 1n])
})

test('it does not know other methods, and goes on', async () => {
  expect(await plugin.ask('constructor')).toMatchObject({ code: 12 })
  expect(await create()).toMatchObject({ code: 0 })
})

test('what is no message ends the connection, and the plugin comes again', async () => {
  for (const bytes of [
    frame(1, ttrpc(99, 1, Buffer.from([0xff, 0xff]))),
    frame(1, ttrpc(99, 1, Buffer.concat([field(2, 'CreateContainer'), field(3, Buffer.from([10, 200]))]))),
    Buffer.from([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
  ]) {
    const next = runtime.next()
    plugin.socket.write(bytes)
    plugin = await next
    expect(await create()).toMatchObject({ code: 0 })
  }
})

test('it comes again after a restart of the runtime, and says both', async () => {
  const [away, back] = [said('is not registered'), said('is registered')]
  await runtime.stop()
  await until('the daemon says that it is away', () => said('is not registered') === away + 1, 10)
  const next = runtime.next()
  await runtime.start()
  plugin = await next
  expect(await create()).toMatchObject({ code: 0 })
  expect([said('is not registered'), said('is registered')]).toEqual([away + 1, back + 1])
})

test('a reload changes what namespaces may use, and keeps the connection', async () => {
  const shop = { namespace: 'shop' }
  expect(await create(shop)).toMatchObject({ code: 9 })
  daemon.configure(configuration(', shop: [nodes]'))
  await daemon.reload()
  expect(await create(shop)).toMatchObject({ code: 0 })
  expect(plugin.isClosed).toBe(false)
})

test('it comes again after a restart of the daemon', async () => {
  const next = runtime.next()
  await daemon.close()
  await until('the plugin is gone', () => plugin.isClosed, 10)
  daemon = await Daemon.start(configuration())
  plugin = await next
  expect(await create()).toMatchObject({ code: 0 })
})

test('a reload can switch it off', async () => {
  daemon.configure('')
  await daemon.reload()
  await until('the plugin is gone', () => plugin.isClosed, 10)
})

test('it does not connect where others could listen', async () => {
  const open = join(directory, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  daemon.configure(`nri: { socket: ${open}/nri.sock }`)
  await daemon.reload()
  const why = () => String(daemon.log.findLast(({ message }) => message === 'the NRI plugin is not registered')?.why)
  await until('it says so', () => why().includes(`"${open}" can be written by everybody`), 10)
})

test('it tries again after ten seconds with a runtime that does not answer', async () => {
  await until('it has connected twice', () => silent.plugins.length > 1, 20)
  expect(waiting.log).toContainEqual(
    expect.objectContaining({ level: 'warn', why: 'the runtime does not register the plugin' }),
  )
}, 30_000)
