// What a container got before its policy was lowered, and uses after that: contexts and mounts that it holds.
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { CLI, Daemon } from '../support/daemon.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { BASE, directory, execute, USERNS, until } from '../support/host.ts'
import { Images, nodeFor } from '../support/images.ts'
import { lacks, withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4')
const KEYS = 'security.syscalls.intercept'

let images: Images
let daemon: Daemon
let device: string
let started: ChildProcess | undefined
beforeAll(async () => {
  if (cannot) return
  images = new Images()
  daemon = await Daemon.start()
  device = nodeFor(images.device('ext4'), daemon.directory, BASE)
})
afterEach(() => void started?.stdin?.end())
afterAll(async () => {
  await daemon?.close()
  images?.[Symbol.dispose]()
})

const FSCONFIG = { string: 1, create: 6, reconfigure: 7 } as const
const WAIT = '@read 0 p:1 1'
const SAYS_OK = 'umask 022'
const TOKEN_CREATE = 36
const NO_ATIME = 'w:0x10/0x70/0/0'
/** Each begins with what is done while it is allowed; then comes the call that is made anew after each change. */
const KINDS = {
  'a context': { first: ['@fsopen s:ext4 0', 'source'], use: `fsconfig =0 ${FSCONFIG.create} null null 0` },
  'a file system that is made': { first: ['@fsopen s:ext4 0', 'source', 'create'], use: 'fsmount =0 0 0' },
  'a mount that stands nowhere': {
    first: ['@fsopen s:ext4 0', 'source', 'create', '@fsmount =0 0 0'],
    use: 'move_mount =3 s: -100 s:/mnt 4',
  },
  'the attributes of one': {
    first: ['@fsopen s:ext4 0', 'source', 'create', '@fsmount =0 0 0'],
    use: `mount_setattr =3 s: 0x1000 ${NO_ATIME} 32`,
  },
  'a context of a tmpfs that stands': {
    first: [
      '@mount s:none s:/mnt s:tmpfs 0 null',
      '@fspick -100 s:/mnt 0',
      `@fsconfig =1 ${FSCONFIG.string} s:size s:2m 0`,
    ],
    use: `fsconfig =1 ${FSCONFIG.reconfigure} null null 0`,
  },
  'a bpffs that is described': {
    first: ['@fsopen s:bpf 0', `@fsconfig =0 ${FSCONFIG.string} s:delegate_cmds s:prog_load 0`],
    use: `fsconfig =0 ${FSCONFIG.create} null null 0`,
  },
  'a BPF token': {
    first: [
      '@fsopen s:bpf 0',
      ...['cmds s:map_create', 'maps s:hash'].map((one) => `@fsconfig =0 ${FSCONFIG.string} s:delegate_${one} 0`),
      ...['create', '@fsmount =0 0 0', '@openat =4 s:. 0', `@bpf ${TOKEN_CREATE} t:4@0+4@=5 8`],
    ],
    use: `bpf 0 t:4@1+4@4+4@4+4@1+4@0x10000+${Array(14).fill('4@0').join('+')}+4@=6 80`,
  },
} as const
type Kind = keyof typeof KINDS

const intercede = (...args: readonly string[]) => execute(process.execPath, [CLI, ...args])
const feed = (): readonly string[] => ['--feed', join(daemon.directory, 'feed.sock')]
async function set(id: string, ...words: readonly string[]): Promise<void> {
  const { status, stderr } = await intercede('set', ...feed(), id, ...words)
  expect({ status, stderr }).toMatchObject({ status: 0 })
}
async function reload(config: string): Promise<void> {
  daemon.configure(config)
  const { status, stderr } = await intercede('reload', '--control', join(daemon.directory, 'control.sock'))
  expect({ status, stderr }).toMatchObject({ status: 0 })
}
/** Why the last calls of a container were refused. */
async function reasons(id: string): Promise<readonly string[]> {
  const { stdout } = await intercede('explain', ...feed(), id, '--format', 'json')
  return (JSON.parse(stdout) as { reason: string }[]).map(({ reason }) => reason)
}

let serial = 0
/** A container that has got something, and tries to use it each time that it is told to. */
class Holder {
  readonly id = `holder${process.pid}x${serial++}`
  readonly #child: ChildProcess
  #said = ''

  /** @param use the call, if another one */
  constructor(kind: Kind, keys: readonly string[] = [], use: string = KINDS[kind].use) {
    const { first } = KINDS[kind]
    const short: Readonly<Record<string, string>> = {
      source: `@fsconfig =0 ${FSCONFIG.string} s:source s:${device} 0`,
      create: `@fsconfig =0 ${FSCONFIG.create} null null 0`,
    }
    const uses = Array.from({ length: 4 }, () => [WAIT, use])
    const steps = [...first.map((step) => short[step] ?? step), SAYS_OK, ...uses.flat()]
    const metadata = ['mount=true', 'mount.allowed=ext4,tmpfs', ...keys].map((key) => `${KEYS}.${key}`).join('\n')
    const container = [
      '--userns',
      USERNS,
      '--await-agent',
      '--mounts',
      '--bpf',
      '--id',
      this.id,
      '--metadata',
      metadata,
    ]
    const command = ['unshare', '--mount', fixture('call-steps'), ...steps.join(' , ').split(' ')]
    this.#child = spawn(fixture('filtered'), [daemon.socket, ...container, '--', ...command], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#child.stdout!.on('data', (chunk: Buffer) => (this.#said += chunk.toString()))
    started = this.#child
  }

  /** Whether it has done what is done first. */
  get isReady(): boolean {
    return this.#said !== ''
  }

  /** @returns "ok", or the name of the errno */
  async use(): Promise<string> {
    const before = this.#said.length
    this.#child.stdin!.write('.')
    await until(`${this.id} has called`, () => this.#said.length > before || this.#child.exitCode !== null)
    return this.#said.slice(before).replace(/^, |\n$/g, '')
  }
}

/** What is in the way when it is used first is the policy alone. */
async function ready(kind: Kind, keys?: readonly string[], use?: string): Promise<Holder> {
  const holder = new Holder(kind, keys, use)
  await until('it is served', async () => (await intercede('ps', ...feed())).stdout.includes(holder.id))
  await until('it has what it needs', () => holder.isReady)
  return holder
}

const BPFFS = 'a bpffs that is described'
const TOKEN = 'a BPF token'
const kinds = (Object.keys(KINDS) as readonly Kind[]).filter((kind) => kind !== BPFFS && kind !== TOKEN)
describe.skipIf(cannot)(withReason('what a container got before its policy was lowered', cannot), () => {
  test.each(kinds)('%s gives nothing after set, and all again when that is raised', async (kind) => {
    const holder = await ready(kind)
    await set(holder.id, 'mount.allowed=xfs')
    expect(await holder.use()).toBe('EPERM')
    expect(await reasons(holder.id)).toContain('fileSystemNotAllowed')
    await set(holder.id, 'mount.allowed=ext4,tmpfs')
    expect(await holder.use()).toBe('ok')
  })

  test.each(kinds)('%s gives nothing in observe mode either', async (kind) => {
    const holder = await ready(kind)
    await set(holder.id, 'mount.allowed=xfs', 'mode=observe')
    expect(await holder.use()).toBe('EPERM')
    expect(await reasons(holder.id)).toContain('fileSystemNotAllowed')
  })

  // A reload takes seconds, and all kinds are judged by what it leaves.
  test.each<Kind>(['a context', 'a mount that stands nowhere'])(
    '%s gives nothing after a reload with a ceiling, and all again without',
    async (kind) => {
      await reload('')
      const holder = await ready(kind)
      await reload('ceiling: { mount.allowed: xfs }')
      expect(await holder.use()).toBe('EPERM')
      expect(await reasons(holder.id)).toContain('fileSystemNotAllowed')
      await reload('')
      expect(await holder.use()).toBe('ok')
    },
  )

  test.each(kinds)('%s gives nothing once the key is off', async (kind) => {
    const holder = await ready(kind)
    await set(holder.id, 'mount=false')
    // The kernel knows of nothing that was made in the context that the container has.
    expect(await holder.use()).toBe(kind === 'a file system that is made' ? 'EINVAL' : 'EPERM')
  })

  // The kernel asks nobody for these, as for any descriptor that was opened before.
  test.each([
    { what: 'opened in it', use: 'openat =3 s:hello 0' },
    { what: 'placed by a path', use: 'move_mount =3 s:. -100 s:/mnt 0' },
  ])('a mount that stands nowhere is still there to be $what', async ({ use }) => {
    const holder = await ready('a mount that stands nowhere', [], use)
    await set(holder.id, 'mount=false')
    expect(await holder.use()).toBe('ok')
  })

  test.each([
    { was: 'mount.nodev=false', now: 'mount.nodev=true' },
    { was: 'mount.shift=true', now: 'mount.shift=false' },
  ])('a mount made with $was stands nowhere after $now', async ({ was, now }) => {
    const holder = await ready('a mount that stands nowhere', [was])
    await set(holder.id, now)
    expect(await holder.use()).toBe('EPERM')
    expect(await reasons(holder.id)).toContain('madeBefore')
    await set(holder.id, was)
    expect(await holder.use()).toBe('ok')
  })
})

const cannotDelegate = cannot ?? lacks('bpfTokens')
describe.skipIf(cannotDelegate)(
  withReason('a bpffs that was described before the policy was lowered', cannotDelegate),
  () => {
    const given = ['bpf=true', 'bpf.delegate_cmds=prog_load,map_create']

    test('delegates what is still listed when it is made', async () => {
      const holder = await ready(BPFFS, given)
      await set(holder.id, 'bpf.delegate_cmds=prog_load')
      expect(await holder.use()).toBe('ok')
      expect(await holder.use()).toBe('EBUSY')
    })

    test.each([
      { lowered: ['bpf.delegate_cmds=map_create'], reason: 'notDelegated' },
      { lowered: ['bpf.delegate_cmds=', 'mount=false'], reason: 'notDelegated' },
      { lowered: ['bpf=false'], reason: 'notDelegated' },
      { lowered: ['mode=observe'], reason: 'observedAct' },
    ])('is not made after set $lowered', async ({ lowered, reason }) => {
      const holder = await ready(BPFFS, given)
      await set(holder.id, ...lowered)
      expect(await holder.use()).toBe('EPERM')
      if (!lowered.includes('mount=false')) expect(await reasons(holder.id)).toContain(reason)
      await set(holder.id, ...given, 'mode=enforce')
      // The kernel has refused to make it, and takes no second try.
      expect(await holder.use()).toBe('EBUSY')
    })

    // Nobody can take the token back, and with CAP_SYS_ADMIN it would let a program read all memory of the kernel.
    test.each([
      { lowered: ['bpf=false'] },
      { lowered: ['bpf.delegate_cmds=', 'bpf.delegate_maps=', 'bpf.devices=true'] },
    ])('a token gives no more than before after set $lowered', async ({ lowered }) => {
      const holder = await ready(TOKEN, ['bpf=true', 'bpf.delegate_cmds=map_create', 'bpf.delegate_maps=hash'])
      await set(holder.id, ...lowered)
      expect(await holder.use()).toBe('EPERM')
      expect(await reasons(holder.id)).toContain('readsKernel')
    })
  },
)

const noPython = missing('gcc', 'python3')
describe.skipIf(noPython)(withReason('setxattr.allowed that changes while a container makes calls', noPython), () => {
  const LOOP = `
import os, sys
open("f", "w").close()
print("ready", flush=True)
for line in sys.stdin:
  name = line.strip()
  try:
    os.setxattr("f", name, b"a value")
    os.removexattr("f", name)
    print("ok", flush=True)
  except OSError as error:
    print(error.strerror, flush=True)
`
  test('raised, lowered, and taken away, it holds from the next call on', async () => {
    const id = `attributes${process.pid}`
    const metadata = ['setxattr=true', 'setxattr.allowed=security.NTACL'].map((key) => `${KEYS}.${key}`).join('\n')
    const place = directory(join(daemon.directory, 'attributes'), BASE, 0o755)
    started = spawn(
      fixture('filtered'),
      [
        ...[
          daemon.socket,
          '--userns',
          USERNS,
          '--await-agent',
          '--all-xattr',
          '--id',
          id,
          '--metadata',
          metadata,
          '--',
        ],
        ...['python3', '-c', LOOP],
      ],
      { stdio: ['pipe', 'pipe', 'inherit'], cwd: place },
    )
    let said = ''
    started.stdout!.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await until('it is ready', () => /.\n$/.test(said))
    const call = async (name: string): Promise<string> => {
      said = ''
      started!.stdin!.write(`${name}\n`)
      await until(`it has set ${name}`, () => /.\n$/.test(said))
      return said.trim()
    }
    const both = async (): Promise<readonly string[]> => [
      await call('security.NTACL'),
      await call('trusted.glusterfs.x'),
    ]
    const refused = 'Operation not permitted'
    expect(await both()).toEqual(['ok', refused])
    await set(id, 'setxattr.allowed=security.NTACL,trusted.glusterfs.*')
    expect(await both()).toEqual(['ok', 'ok'])
    await set(id, 'setxattr.allowed=trusted.glusterfs.*')
    expect(await both()).toEqual([refused, 'ok'])
    await set(id, 'setxattr.allowed=')
    expect(await both()).toEqual([refused, refused])
    await set(id, 'setxattr.allowed=security.NTACL', 'setxattr=false')
    expect(await both()).toEqual([refused, refused])
    await set(id, 'setxattr=true')
    expect(await both()).toEqual(['ok', refused])
  })
})
