import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { CallRecord } from '../../../src/calls/record.ts'
import { Group, withoutCgroups } from '../../support/bpf-world.ts'
import { fixture, missing, noI386 } from '../../support/fixtures.ts'
import { BASE, execute, Host, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'
import { Strace } from '../../support/strace.ts'

const OPAQUE = 'trusted.overlay.opaque'
/** Of the minimal container: what it traps, and that it has a pid namespace, for its walker. */
const CONTAINER = ['--xattr', '--pidns']
const absent = missing('getfattr')

let host: Host
let dir: string
let serial = 0

beforeAll(async () => {
  host = await Host.start({ setxattr: { allowed: new Set<string>(), read: true } })
  dir = join(host.directory, 'work')
  mkdirSync(dir)
  own(dir, BASE)
})
afterAll(() => host?.close())

function own(path: string, owner: number, mode = 0o755): string {
  chownSync(path, owner, owner)
  chmodSync(path, mode)
  return path
}

/** A new file of the container's root, or of another. */
function file(owner = BASE, mode = 0o644): string {
  const path = join(dir, `f${serial++}`)
  writeFileSync(path, '')
  return own(path, owner, mode)
}

/** What the host sees: the value, or undefined if there is none. */
async function opaqueOf(path: string): Promise<string | undefined> {
  const { status, stdout } = await execute('getfattr', ['-h', '--only-values', '-n', OPAQUE, path])
  return status === 0 ? stdout : undefined
}

const call = (caller: readonly string[], options: readonly string[] = []) =>
  host.call(caller, [...CONTAINER, ...options])

/** What a reading call printed, and its record. */
async function read(...caller: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const { stdout, stderr } = await host.run(CONTAINER, [fixture('caller'), ...caller])
  if (stdout === '') throw new Error(`The caller said nothing: ${stderr}`)
  return JSON.parse(stdout) as Record<string, unknown>
}

const hasXattrat = async (): Promise<boolean> =>
  (await execute(fixture('caller'), ['listxattrat', '/'])).stdout.includes('"ok"')

describe.skipIf(absent)(withReason('trusted.overlay.opaque', absent), () => {
  test.skipIf(withoutCgroups())(
    withReason('on a control group, where it costs the container nothing, is left to the kernel', withoutCgroups()),
    async () => {
      const group = new Group().delegate()
      const { result, records } = await call(['setxattr', group.path, OPAQUE, 'y'])
      expect(result).toBe('EPERM')
      expect(records).toMatchObject([{ verdict: 'continue', reason: 'ofKernel' }])
      expect(await opaqueOf(group.path)).toBeUndefined()
      await group.remove()
    },
  )

  test.for<{ readonly what: string; readonly options: readonly string[] }>([
    { what: 'by path', options: [] },
    { what: 'from another thread', options: ['--thread'] },
    { what: 'in i386 code', options: ['--i386'] },
  ])('is set, read, listed and removed $what', async ({ options }, { skip }) => {
    if (noI386 && options[0] === '--i386') skip(noI386)
    for (const prefix of ['', 'l', 'f']) {
      const path = file()
      const { result, records } = await call([...options, `${prefix}setxattr`, path])
      expect([result, await opaqueOf(path)]).toEqual(['ok', 'y'])
      expect(records).toMatchObject([{ verdict: 'act', errno: 0, reason: 'done' }])
      expect(await read(...options, `${prefix}getxattr`, path)).toEqual({ ok: true, value: 1, text: 'y' })
      expect(await read(...options, `${prefix}listxattr`, path)).toMatchObject({ value: 23, text: `${OPAQUE} ` })
      expect(await call([...options, `${prefix}removexattr`, path])).toMatchObject({ result: 'ok' })
      expect(await opaqueOf(path)).toBeUndefined()
    }
  })

  test('is set, read, listed and removed by the calls of Linux 6.13', async ({ skip }) => {
    if (!(await hasXattrat())) skip('the kernel does not have them')
    const path = file()
    expect(await call(['setxattrat', path])).toMatchObject({ result: 'ok', records: [{ verdict: 'act' }] })
    expect(await read('getxattrat', path)).toMatchObject({ value: 1, text: 'y' })
    expect(await read('listxattrat', path)).toMatchObject({ value: 23 })
    expect(await call(['removexattrat', path])).toMatchObject({ result: 'ok' })
    expect(await opaqueOf(path)).toBeUndefined()
  })

  test('obeys XATTR_CREATE and XATTR_REPLACE', async () => {
    const path = file()
    const set = async (flags: string): Promise<string> => (await call(['setxattr', path, OPAQUE, 'y', flags])).result
    expect([await set('2'), await set('1'), await set('1'), await set('2')]).toEqual(['ENODATA', 'ok', 'EEXIST', 'ok'])
  })

  test('is listed after what the kernel lists to everybody', async () => {
    const path = file()
    await execute('setfattr', ['-n', 'user.a', '-v', 'b', path])
    await execute('setfattr', ['-n', 'trusted.other', '-v', 'b', path])
    await call(['setxattr', path])
    expect(await read('listxattr', path)).toMatchObject({ text: `user.a ${OPAQUE} ` })
  })
})

describe.skipIf(absent)(withReason('setxattr by owner of the file', absent), () => {
  test.each([
    { what: 'a file that nobody may read', owner: BASE, mode: 0o000, is: 'ok' },
    { what: 'a file of another user of the container', owner: BASE + 1000, mode: 0o600, is: 'ok' },
    { what: 'a file of the host that everybody may write', owner: 0, mode: 0o666, is: 'EPERM' },
    { what: 'a file of another container', owner: BASE + 65536, mode: 0o666, is: 'EPERM' },
    { what: 'a file of the overflow id', owner: 65534, mode: 0o666, is: 'EPERM' },
  ])('$what: $is', async ({ owner, mode, is }) => {
    const path = file(owner, mode)
    const { result, records } = await call(['setxattr', path])
    expect([result, await opaqueOf(path)]).toEqual([is, is === 'ok' ? 'y' : undefined])
    expect(records).toMatchObject([{ reason: is === 'ok' ? 'done' : 'notOfContainer' }])
  })

  test('a file whose group alone is not of the container is left to the kernel', async () => {
    const path = file()
    chownSync(path, BASE, 0)
    expect(await call(['setxattr', path])).toMatchObject({ result: 'EPERM', records: [{ reason: 'notOfContainer' }] })
  })

  test('a directory that only a capability over files opens: the walker looks up', async () => {
    const closed = join(dir, 'closed')
    mkdirSync(closed)
    const path = file()
    await execute('mv', [path, join(closed, 'in')])
    own(closed, BASE + 1000, 0o700)
    expect(await call(['setxattr', join(closed, 'in')])).toMatchObject({ result: 'ok' })
    const user = ['--uid', '1001', '--gid', '1001', '--keep-caps']
    expect(await call(['removexattr', join(closed, 'in')], user)).toMatchObject({ result: 'ok' })
    const { result } = await call(['setxattr', join(closed, 'in')], ['--uid', '1001', '--gid', '1001'])
    expect(result).toBe('EACCES')
  })
})

describe('setxattr by caller', () => {
  test.each([
    {
      what: 'without CAP_SYS_ADMIN',
      options: ['--uid', '1000', '--gid', '1000'],
      caller: [],
      reason: 'lacksCapability',
    },
    { what: 'in a child user namespace', options: [], caller: ['--userns'], reason: 'childUserns' },
  ])('a caller $what gets the answer of the kernel', async ({ options, caller, reason }) => {
    const path = file(BASE + 1000, 0o666)
    const { result, records } = await call([...caller, 'setxattr', path], options)
    expect([result, records]).toMatchObject(['EPERM', [{ verdict: 'continue', reason }]])
    expect(await call([...caller, 'getxattr', path], options)).toMatchObject({
      result: 'ENODATA',
      records: [{ reason }],
    })
  })
})

describe('another attribute or value is left to the kernel', () => {
  test.each([
    { what: 'another trusted name', words: ['trusted.blah', 'y'], is: 'EPERM', reason: 'attributeNotListed' },
    {
      what: 'a name that only begins like it',
      words: [`${OPAQUE}x`, 'y'],
      is: 'EPERM',
      reason: 'attributeNeverServed',
    },
    { what: 'another value', words: [OPAQUE, 'x'], is: 'EPERM' },
    // Linux 6.1 with the security module of BPF lets root of a container do that.
    {
      what: 'an attribute of the security module',
      words: ['security.blah', 'y'],
      is: expect.stringMatching(/^(EPERM|ok)$/),
      reason: 'attributeNotListed',
    },
    { what: 'a user attribute of one byte', words: ['user.blah', 'y'], is: 'ok', reason: 'attributeOfAll' },
  ])('$what: $is', async ({ words, is, reason = 'otherAttribute' }) => {
    const { result, records } = await call(['setxattr', file(), ...words])
    expect([result, records]).toMatchObject([is, [{ verdict: 'continue', reason }]])
  })

  test('a longer value, which is not even trapped', async () => {
    expect(await call(['setxattr', file(), 'user.blah', 'yes'])).toEqual({ result: 'ok', records: [] })
    expect(await call(['setxattr', file(), OPAQUE, 'yes'])).toEqual({ result: 'EPERM', records: [] })
  })

  test('reading, without setxattr.read', async () => {
    const plain = await Host.start({ setxattr: { allowed: new Set<string>(), read: false } })
    try {
      const path = join(plain.directory, 'f')
      writeFileSync(path, '')
      own(path, BASE)
      const asked = await plain.call(['getxattr', path], CONTAINER)
      expect(asked).toMatchObject({ result: 'ENODATA', records: [{ verdict: 'continue', reason: 'keyOff' }] })
    } finally {
      plain.close()
    }
  })
})

describe.skipIf(absent)(withReason('paths of setxattr', absent), () => {
  test('relative, through links or not, in a chroot, through procfs', async () => {
    const root = join(dir, 'root')
    for (const path of [root, join(root, 'sub')]) {
      mkdirSync(path)
      own(path, BASE)
    }
    symlinkSync('/sub', join(root, 'link'))
    symlinkSync('link/', join(root, 'chain'))
    for (const name of ['link', 'chain']) await execute('chown', ['-h', `${BASE}:${BASE}`, join(root, name)])
    const sub = join(root, 'sub')
    const set = async (at: string, ...caller: readonly string[]): Promise<void> => {
      expect([caller, await call(caller)]).toMatchObject([caller, { result: 'ok' }])
      expect([caller, await opaqueOf(at)]).toEqual([caller, 'y'])
      await execute('setfattr', ['-h', '-x', OPAQUE, at])
    }
    await set(sub, '--cd', root, 'setxattr', 'sub/../sub')
    await set(sub, '--chroot', root, 'setxattr', '/link')
    await set(sub, '--chroot', root, 'setxattr', '/chain')
    await set(sub, '--chroot', root, 'lsetxattr', '/link/')
    await set(join(root, 'link'), '--chroot', root, 'lsetxattr', '/link')
    await set(sub, '--cd', sub, 'setxattr', '/proc/self/cwd')
    await set(sub, '--cd', sub, 'setxattr', '/proc/thread-self/cwd/../sub/.')
    await set(join(root, 'link'), '--cd', root, 'lsetxattr', '/proc/self/cwd/link')
  })

  test.each([
    { what: 'a file with a slash behind it', path: '/', is: 'ENOTDIR' },
    { what: 'a file that is used as a directory', path: '/.', is: 'ENOTDIR' },
    { what: 'one that is not there', path: '.not', is: 'ENOENT' },
  ])('$what: $is', async ({ path, is }) => {
    expect(await call(['setxattr', `${file()}${path}`])).toMatchObject({ result: is })
    expect(await call(['--cd', dir, 'setxattr', `/proc/self/cwd/${file().split('/').at(-1)}${path}`])).toMatchObject({
      result: is,
    })
  })
})

const noStrace = missing('strace', 'getfattr')

describe.skipIf(noStrace)(withReason('a file that could wait or act when it is opened', noStrace), () => {
  let strace: Strace | undefined
  afterEach(() => strace?.end())

  /** One of each, of the container. */
  async function targets(): Promise<readonly string[]> {
    const at = (name: string): string => join(dir, `${name}${serial++}`)
    const made = [at('fifo'), at('character'), at('block'), at('socket'), at('directory')]
    const [fifo = '', character = '', block = '', socket = '', directory = ''] = made
    await execute('mknod', [fifo, 'p'])
    await execute('mknod', [character, 'c', '4', '70'])
    await execute('mknod', [block, 'b', '4', '70'])
    await execute('python3', ['-c', 'import socket,sys;socket.socket(socket.AF_UNIX).bind(sys.argv[1])', socket])
    mkdirSync(directory)
    for (const path of made) own(path, BASE + 1000, 0o600)
    return [...made, file(BASE + 1000, 0o000)]
  }

  test('is held by a handle that opens nothing, and is not waited for', async () => {
    const paths = await targets()
    const output = join(host.directory, 'strace')
    // A container that stays, so that what is done once for each is not in the trace.
    await call(['setxattr', file()])
    strace = await Strace.attach(host.enginePid, ['-y', '-e', 'trace=file,desc', '-o', output])
    for (const path of paths) {
      const { result, records } = await call(['lsetxattr', path])
      expect([path, result, await opaqueOf(path)]).toEqual([path, 'ok', 'y'])
      expect(records[0]!.microseconds).toBeLessThan(1_000_000 * SLOWNESS)
      for (const reading of ['getxattr', 'listxattr', 'removexattr'])
        expect([reading, (await call([reading, path])).result]).toEqual([reading, 'ok'])
    }
    await strace.end()
    const opened = readFileSync(output, 'utf8')
      .split('\n')
      .filter((line) => / open(at2?)?\(/.test(line) && line.includes(dir))
    expect(opened.length).toBeGreaterThanOrEqual(4 * paths.length)
    expect(opened.filter((line) => !line.includes('O_PATH'))).toEqual([])
  })
})

test('calls of setxattr leave no descriptor behind', async () => {
  const path = file()
  const loop = ['--count', '500', '--processes', '4', '--call', 'setxattr', join(dir, 'loop')]
  const burst = () => host.run([...CONTAINER], [fixture('mknod-loop'), ...loop])
  await call(['setxattr', path])
  await burst()
  const { engineFds } = host.footprint
  const before = acts(host)
  expect((await burst()).status).toBe(0)
  await until('all calls are recorded', () => acts(host) >= before + 2000)
  // The engine may have got more threads meanwhile, but not one for each of so many calls.
  await until('the descriptors are closed', () => host.footprint.engineFds < engineFds + 100)
})

function acts({ records }: { readonly records: readonly CallRecord[] }): number {
  host.drain()
  return records.filter(({ verdict }) => verdict === 'act').length
}
