// Attributes by name, for Samba and GlusterFS: those of the policy on files of the container, and nothing else.
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { allowedBy } from '../../../src/policy/attributes.ts'
import { Group, withoutCgroups } from '../../support/bpf-world.ts'
import { missing, noI386 } from '../../support/fixtures.ts'
import { MemoryGroup, unlimitable } from '../../support/groups.ts'
import { BASE, type Done, directory, execute, Host } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const NTACL = 'security.NTACL'
const GLUSTER = 'trusted.glusterfs.volume-id'
const allowed: ReadonlySet<string> = new Set([NTACL, 'trusted.glusterfs.*'])
const CONTAINER = ['--all-xattr', '--pidns']
const absent = missing('gcc', 'getfattr', 'python3')

let host: Host
let dir: string
let serial = 0
beforeAll(async () => {
  if (absent) return
  host = await Host.start({ setxattr: { allowed, read: true } })
  dir = directory(join(host.directory, 'work'), BASE, 0o755)
})
afterAll(() => host?.close())

/** A new file of the container's root, or of another. */
function file(owner = BASE, at = dir): string {
  const path = join(at, `f${serial++}`)
  writeFileSync(path, '')
  chownSync(path, owner, owner)
  chmodSync(path, 0o666)
  return path
}

/** What the host sees: each attribute as NAME=VALUE. */
const seen = (path: string): readonly string[] =>
  execFileSync('getfattr', ['--absolute-names', '-h', '-d', '-m', '-', '-e', 'text', path], { encoding: 'latin1' })
    .split('\n')
    .filter((line) => line.includes('='))
    .toSorted()

const call = (caller: readonly string[], options: readonly string[] = []) =>
  host.call(caller, [...CONTAINER, ...options])

/** Runs a script of Python in a container, with `call`, which makes a call and returns its errno's name or its result. */
const python = (script: string, options: readonly string[] = []): Promise<Done> =>
  host.run(
    [...CONTAINER, ...options],
    [
      'python3',
      '-c',
      `
import ctypes, errno, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
  result = getattr(libc, name)(*args)
  return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
def size(n): return ctypes.c_size_t(n)
${script}`,
    ],
  )

describe.skipIf(absent)(withReason('attributes that the policy lists', absent), () => {
  test.for<{ readonly what: string; readonly options: readonly string[] }>([
    { what: 'by path, link and descriptor', options: [] },
    { what: 'from another thread', options: ['--thread'] },
    { what: 'in i386 code', options: ['--i386'] },
  ])('are set and removed $what', async ({ options }, { skip }) => {
    if (noI386 && options[0] === '--i386') skip(noI386)
    for (const name of [NTACL, GLUSTER])
      for (const prefix of ['', 'l', 'f']) {
        const path = file()
        const { result, records } = await call([...options, `${prefix}setxattr`, path, name, 'a value'])
        expect([result, seen(path)]).toEqual(['ok', [`${name}="a value"`]])
        expect(records).toMatchObject([{ verdict: 'act', errno: 0, reason: 'done' }])
        expect(await call([...options, `${prefix}removexattr`, path, name])).toMatchObject({ result: 'ok' })
        expect(seen(path)).toEqual([])
      }
  })

  test('are set and removed by the calls of Linux 6.13', async ({ skip }) => {
    const path = file()
    const { result } = await call(['setxattrat', path, NTACL, 'a value'])
    if (result === 'ENOSYS') skip('the kernel does not have them')
    expect([result, seen(path)]).toEqual(['ok', [`${NTACL}="a value"`]])
    expect(await call(['removexattrat', path, NTACL])).toMatchObject({ result: 'ok' })
    expect(seen(path)).toEqual([])
  })

  test('obey XATTR_CREATE and XATTR_REPLACE', async () => {
    const path = file()
    const set = async (flags: string): Promise<string> => (await call(['setxattr', path, NTACL, 'abc', flags])).result
    expect([await set('2'), await set('1'), await set('1'), await set('2')]).toEqual(['ENODATA', 'ok', 'EEXIST', 'ok'])
    const remove = async (): Promise<string> => (await call(['removexattr', path, NTACL])).result
    expect([await remove(), await remove()]).toEqual(['ok', 'ENODATA'])
  })

  test('are read and listed, and no other name of trusted.* is', async () => {
    const path = file()
    for (const name of ['user.a', NTACL, GLUSTER, 'trusted.other', 'trusted.overlay.redirect'])
      await execute('setfattr', ['-n', name, '-v', 'abc', path])
    const { stdout } = await python(`print(sorted(os.listxattr("${path}")), os.getxattr("${path}", "${GLUSTER}"))
print(call("getxattr", b"${path}", b"trusted.other", None, size(0)), call("listxattr", b"${path}", None, size(0)))
for n in (49, 50): print(call("listxattr", b"${path}", ctypes.create_string_buffer(100), size(n)))`)
    expect(stdout).toBe(`['${NTACL}', '${GLUSTER}', 'user.a'] b'abc'\nENODATA 50\nERANGE\n50\n`)
  })

  test('keep every value and name that the kernel accepts, and get its errno for others', async () => {
    const path = file(BASE, directory(join(dir, 'sizes'), BASE, 0o755))
    const memory = join(dir, 'sizes', 'tmpfs')
    mkdirSync(memory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `uid=${BASE},gid=${BASE}`, 'none', memory])
    try {
      const { stdout, stderr } = await python(`
path = b"${file(BASE, memory)}"
name = b"trusted.glusterfs.x"
for value, n in ((b"", 0), (b"a" * 65536, 65536), (b"a" * 65537, 65537), (b"a", -1), (b"a", 1 << 32)):
  print(call("setxattr", path, name, value, size(n), 0), end=" ")
print(len(os.getxattr(path, name)))
for name in (b"trusted.glusterfs." + b"n" * 237, b"trusted.glusterfs." + b"n" * 238, b"trusted.glusterfs.", b"", None):
  print(call("setxattr", path, name, b"value", size(5), 0), end=" ")
print(call("setxattr", path, b"trusted.glusterfs.x", None, size(5), 0), call("setxattr", path, ctypes.c_void_p(1), b"", size(0), 0))
print(call("setxattr", path, b"trusted.glusterfs.x", b"value", size(5), 4), call("fsetxattr", 99, name, b"", size(0), 0))
print(call("fsetxattr", os.open(path, os.O_PATH), b"trusted.glusterfs.x", b"value", size(5), 0))`)
      expect({ stdout, stderr }).toEqual({
        stdout: `0 0 E2BIG E2BIG E2BIG 65536\n0 ERANGE 0 ERANGE EFAULT EFAULT EFAULT\nEINVAL EFAULT\nEBADF\n`,
        stderr: '',
      })
      expect(seen(path)).toEqual([])
    } finally {
      execFileSync('umount', [memory])
    }
  })
})

describe.skipIf(absent)(withReason('what is left to the kernel, which refuses it', absent), () => {
  test.each([
    { name: 'trusted.other', reason: 'attributeNotListed' },
    { name: 'trusted.glusterfs', reason: 'attributeNotListed' },
    { name: 'security.NTACLs', reason: 'attributeNotListed' },
    { name: 'trusted.overlay.redirect', reason: 'attributeNeverServed' },
    { name: 'trusted.SGI_ACL_FILE', reason: 'attributeNeverServed' },
    { name: 'security.ima', reason: 'attributeNeverServed' },
  ])('$name', async ({ name, reason }) => {
    const path = file()
    await execute('setfattr', ['-n', name, '-v', 'host', path])
    const before = seen(path)
    for (const operation of [
      ['setxattr', path, name, 'value'],
      ['removexattr', path, name],
    ])
      expect(await call(operation)).toMatchObject({ records: [{ verdict: 'continue', reason }] })
    // With BPF programs as a security module, Linux 6.1 lets root of a container change some of security.*
    if (!name.startsWith('security.')) expect(seen(path)).toEqual(before)
  })

  test.each([
    { what: 'a file of the host', owner: 0 },
    { what: 'a file of another container', owner: BASE + 65_536 },
    { what: 'a file of the overflow id', owner: 65_534 },
  ])('$what', async ({ owner }) => {
    const path = file(owner)
    for (const name of [NTACL, GLUSTER]) {
      const { result, records } = await call(['setxattr', path, name, 'value'])
      expect([result, seen(path)]).toEqual(['EPERM', []])
      expect(records).toMatchObject([{ verdict: 'continue', reason: 'notOfContainer' }])
    }
  })

  test('without CAP_SYS_ADMIN, and in a child user namespace', async () => {
    const path = file(BASE + 1000)
    const user = ['--uid', '1000', '--gid', '1000']
    expect(await call(['setxattr', path, NTACL, 'value'], user)).toMatchObject({
      ...{ result: 'EPERM', records: [{ reason: 'lacksCapability' }] },
    })
    expect(await call(['--userns', 'setxattr', path, NTACL, 'value'], user)).toMatchObject({
      ...{ result: 'EPERM', records: [{ reason: 'childUserns' }] },
    })
    expect(seen(path)).toEqual([])
  })

  test('a file that is immutable, and one on a mount that is read-only: the errno of the kernel', async ({ skip }) => {
    const path = file()
    const place = directory(join(dir, `ro${serial++}`), BASE, 0o755)
    const there = file(BASE, place)
    execFileSync('mount', ['--bind', place, place])
    try {
      execFileSync('mount', ['-o', 'remount,bind,ro', place])
      for (const name of [NTACL, GLUSTER])
        expect(await call(['setxattr', there, name, 'value'])).toMatchObject({
          result: 'EROFS',
          records: [{ errno: 30 }],
        })
    } finally {
      execFileSync('umount', [place])
    }
    if ((await execute('chattr', ['+i', path])).status !== 0) skip('this file system has no immutable files')
    try {
      expect(await call(['setxattr', path, NTACL, 'value'])).toMatchObject({
        result: 'EPERM',
        records: [{ verdict: 'errno' }],
      })
    } finally {
      await execute('chattr', ['-i', path])
    }
    expect([...seen(path), ...seen(there)]).toEqual([])
  })

  test.skipIf(withoutCgroups())(withReason('a control group of the container', withoutCgroups()), async () => {
    const group = new Group().delegate()
    for (const operation of [
      ['setxattr', group.path, GLUSTER, 'value'],
      ['removexattr', group.path, GLUSTER],
    ])
      expect(await call(operation)).toMatchObject({ records: [{ verdict: 'continue', reason: 'ofKernel' }] })
    expect(seen(group.path)).toEqual([])
    await group.remove()
  })
})

describe.skipIf(absent)(withReason('races', absent), { timeout: 60_000 }, () => {
  test('a name that changes while it is read sets what is listed, or nothing', async () => {
    const path = file()
    const { stdout } = await python(`
names = [b"trusted.glusterfs.a\\0", b"trusted.SGI_ACL_FILE\\0", b"trusted.overlay.redi\\0", b"trusted.glusterfs.bc\\0"]
buffer = ctypes.create_string_buffer(32)
over = False
def change():
  i = 0
  while not over:
    ctypes.memmove(buffer, names[i & 3], len(names[i & 3])); i += 1
thread = threading.Thread(target=change); thread.start()
sys.setswitchinterval(0.00001)
done = [call("setxattr", b"${path}", buffer, b"value", size(5), 0) for _ in range(4000)]
over = True; thread.join()
print(done.count(0) > 0, done.count("EPERM") > 0)`)
    const names = seen(path).map((line) => line.replace(/=.*/, ''))
    expect([stdout, names.filter((name) => allowedBy(allowed, name) === undefined)]).toEqual(['True True\n', []])
  })

  test('a path that leads to a file of the host now and then changes none of it', async () => {
    const place = directory(join(dir, `race${serial++}`), BASE, 0o755)
    const foreign = file(0)
    const { stdout } = await python(`
os.chdir("${place}"); open("own", "w").close(); os.link("own", "path")
over = False
def change():
  while not over:
    os.symlink("${foreign}", "t"); os.rename("t", "path"); os.link("own", "u"); os.rename("u", "path")
    if os.path.lexists("u"): os.unlink("u")
thread = threading.Thread(target=change); thread.start()
sys.setswitchinterval(0.00001)
done = []
while len(done) < 3000 or (not (0 in done and "EPERM" in done) and len(done) < 100000):
  done.append(call("setxattr", b"path", b"${NTACL}", b"value", size(5), 0))
over = True; thread.join()
print(done.count(0) > 0, done.count("EPERM") > 0)`)
    expect([stdout, seen(foreign)]).toEqual(['True True\n', []])
  })

  test('a value that changes while it is copied is one that was there', async () => {
    const path = file()
    const { stdout } = await python(`
buffer = ctypes.create_string_buffer(b"a" * 3000)
over = False
def change():
  while not over: ctypes.memset(buffer, 98, 3000); ctypes.memset(buffer, 97, 3000)
thread = threading.Thread(target=change); thread.start()
print(all(call("setxattr", b"${path}", b"${NTACL}", buffer, size(3000), 0) == 0 and len(os.getxattr("${path}", "${NTACL}").strip(b"ab")) == 0 for _ in range(1000)))
over = True; thread.join()`)
    expect(stdout).toBe('True\n')
  })
})

const unlimited = absent ?? unlimitable()
const MIB = 1024 * 1024
const usageOf = (group: MemoryGroup): string =>
  ['memory.usage_in_bytes', 'memory.current'].map((name) => join(group.innermost, name)).find(existsSync)!

test.skipIf(unlimited)(
  withReason('what a container keeps in memory beyond a megabyte is charged to it', unlimited),
  { timeout: 120_000 },
  async () => {
    const memory = directory(join(host.directory, 'memory'), BASE, 0o755)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `uid=${BASE},gid=${BASE}`, 'none', memory])
    const group = new MemoryGroup(256 * MIB)
    const used = (): number => Number(readFileSync(usageOf(group), 'latin1')) / MIB
    try {
      const script = (count: number): string => `
for i in range(${count}):
  open(f"${memory}/f{i}", "w").close()
  os.setxattr(f"${memory}/f{i}", "trusted.glusterfs.x", b"a" * 65536)
print("set")`
      expect(await python(script(16), ['--id', 'first'])).toMatchObject({ stdout: 'set\n' })
      const before = used()
      expect(await python(script(128), ['--id', 'second', '--cgroup', group.innermost])).toMatchObject({
        stdout: 'set\n',
      })
      // 16 of these are ours.
      expect(used() - before).toBeGreaterThan(6)
      expect(await python(`print(len(os.getxattr("${memory}/f100", "trusted.glusterfs.x")))`)).toMatchObject({
        ...{ stdout: '65536\n' },
      })
    } finally {
      execFileSync('umount', [memory])
      group[Symbol.dispose]()
    }
  },
)

test.skipIf(unlimited)(
  withReason('what an overlay of a container copies up for an attribute is charged to the container', unlimited),
  { timeout: 60_000 },
  async () => {
    using group = new MemoryGroup(256 * MIB)
    const script = `
used = lambda: int(open("${usageOf(group)}").read()) // ${MIB}
libc.unshare(0x20000)
os.system("mount -t tmpfs none /mnt")
os.chdir("/mnt")
os.system("mkdir -p lower/dir upper work merged; touch lower/file")
for name in "lower/dir", "lower/file":
  for i in range(320): os.setxattr(name, f"security.a{i}", b"a" * 65536)
os.system("mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged")
for path, name in (b"merged/dir", b"trusted.overlay.opaque"), (b"merged/file", b"${NTACL}"):
  before = used()
  print(call("setxattr", path, name, b"y", 1, 0), used() - before > 15)`
    const { stdout } = await python(script, ['--id', 'copies-up', '--cgroup', group.innermost])
    // The kernel asks the container's root, as which the overlay sets attributes.
    expect(stdout).toBe('EPERM True\n0 True\n')
  },
)
