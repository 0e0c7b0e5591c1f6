import { chownSync, existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Mode, PathBytes } from '../../../src/abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../src/abi/fcntl.ts'
import { makedev } from '../../../src/abi/stat.ts'
import { WAS_NOT } from '../../../src/calls/act.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import { isRefusal, type VerdictName } from '../../../src/calls/record.ts'
import { mknodat, openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { mknod } from '../../../src/verbs/mknod.ts'
import { standIn } from '../../support/caller-stand-in.ts'
import { fixture, noI386 } from '../../support/fixtures.ts'
import { BASE, directory, execute, Host } from '../../support/host.ts'
import { cannotShift } from '../../support/images.ts'
import { lacks, withReason } from '../../support/skipped.ts'

const notCopied = lacks('copyDetached')

let host: Host
let dir: string
let serial = 0

beforeAll(async () => {
  host = await Host.start()
  dir = join(host.directory, 'work')
  directory(dir, BASE, 0o755)
})
afterAll(() => host.close())

const USER = ['--uid', '1000', '--gid', '1000']
const fresh = (): string => join(dir, `n${serial++}`)
const nodeAt = (path: string) => {
  const { mode, rdev, uid, gid } = lstatSync(path)
  return { mode: mode.toString(8), rdev, uid, gid }
}

describe('a node that is made', () => {
  test.each([
    { what: 'null', mode: '020666', umask: '022', device: [1, 3], made: '20644' },
    { what: 'a private full', mode: '020600', umask: '0', device: [1, 7], made: '20600' },
    { what: 'a tty without any right', mode: '020777', umask: '777', device: [5, 0], made: '20000' },
    { what: 'bits beyond the permissions', mode: '027777', umask: '0', device: [1, 9], made: '27777' },
  ])(
    '$what by mknod and mknodat, by the numbers of each architecture',
    async ({ mode, umask, device: [major, minor], made }) => {
      for (const arch of noI386 ? [[]] : [[], ['--i386']]) {
        for (const call of [['mknod'], ['mknodat', '-']]) {
          const path = fresh()
          const { result, records } = await host.call([
            ...arch,
            '--umask',
            umask,
            ...call,
            path,
            mode,
            `${major}`,
            `${minor}`,
          ])
          expect(result).toBe('ok')
          expect(records).toMatchObject([{ verdict: 'act', errno: 0, reason: 'done' }])
          expect(nodeAt(path)).toEqual({ mode: made, rdev: major! * 256 + minor!, uid: BASE, gid: BASE })
        }
      }
    },
  )

  test('comes from a thread that is not the main one', async () => {
    const path = fresh()
    expect(await host.call(['--thread', 'mknod', path, '020666', '1', '3'])).toMatchObject({ result: 'ok' })
    expect(lstatSync(path).isCharacterDevice()).toBe(true)
  })

  test('works', async () => {
    const path = fresh()
    const done = await host.run([], ['sh', '-c', `mknod ${path} c 1 3 && echo lost > ${path} && cat ${path}`])
    expect(done).toMatchObject({ status: 0, stdout: '' })
  })

  test('has the ids and groups of a container user that kept its capabilities', async () => {
    const shared = directory(join(dir, 'shared'), BASE, 0o2775)
    chownSync(shared, BASE, BASE + 50)
    const path = join(shared, 'n')
    const options = ['--uid', '1000', '--gid', '1000', '--groups', '50', '--keep-caps']
    const { result } = await host.call(['--umask', '0', 'mknod', path, '020666', '1', '3'], options)
    expect(result).toBe('ok')
    expect(nodeAt(path)).toMatchObject({ uid: BASE + 1000, gid: BASE + 50 })
  })
})

describe('paths of mknod', () => {
  test('relative, by descriptor, through links, in a chroot', async () => {
    mkdirSync(join(dir, 'a/b'), { recursive: true })
    chownSync(join(dir, 'a'), BASE, BASE)
    chownSync(join(dir, 'a/b'), BASE, BASE)
    symlinkSync('a/b', join(dir, 'relative'))
    symlinkSync('/b', join(dir, 'a/absolute'))
    const made = async (expected: string, caller: readonly string[]): Promise<void> => {
      expect(await host.call([...caller, '020666', '1', '3'])).toMatchObject({ result: 'ok' })
      expect(lstatSync(join(dir, expected)).isCharacterDevice()).toBe(true)
    }
    await made('a/b/1', ['--cd', dir, 'mknod', 'a/b/1'])
    await made('a/b/2', ['--cd', dir, 'mknod', './a/../relative/2'])
    await made('a/b/3', ['mknodat', dir, 'a/b/3'])
    await made('a/b/4', ['--chroot', join(dir, 'a'), 'mknod', '/absolute/4'])
    await made('a/b/5', ['--chroot', join(dir, 'a'), '--cd', '/b', 'mknod', '../../../b/5'])
  })

  test('every byte in a name but NUL and slash', async () => {
    const bytes = Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f)
    const names = Buffer.from(bytes)
    const done = await host.run(
      [],
      [
        'python3',
        '-c',
        `import os,stat\nfor b in ${JSON.stringify([...names])}: os.mknod(b"${dir}/x"+bytes([b]), stat.S_IFCHR|0o600, os.makedev(1,3))`,
      ],
    )
    expect(done).toMatchObject({ status: 0, stderr: '' })
    for (const byte of names) {
      const path = Buffer.concat([Buffer.from(`${dir}/x`), Buffer.of(byte)])
      expect(lstatSync(path).isCharacterDevice()).toBe(true)
    }
  })

  test.each([
    { kind: 'null', errno: 'EFAULT' },
    { kind: 'unmapped', errno: 'EFAULT' },
    { kind: 'cross', errno: 'EFAULT' },
    { kind: 'edge', errno: 'ok' },
  ])('a $kind pointer: $errno', async ({ kind, errno }) => {
    expect(await host.call(['--bad-pointer', kind, 'mknod', fresh(), '020666', '1', '3'])).toMatchObject({
      result: errno,
    })
  })
})

describe('a node that is not made, with the errno of the kernel', () => {
  const long = 'l'.repeat(256)
  beforeAll(() => {
    writeFileSync(join(dir, 'file'), '')
    directory(join(dir, 'other'), 0, 0o755)
    directory(join(dir, 'closed'), 0, 0o700)
    directory(join(dir, 'closed/open'), BASE, 0o777)
    symlinkSync('loop', join(dir, 'loop'))
    symlinkSync('nowhere', join(dir, 'dangling'))
  })

  test.each<{
    what: string
    path: string
    errno: string
    verdict: VerdictName
    reason: ReasonCode
    node?: [string, number, number]
  }>([
    { what: 'a file that is there', path: 'file', errno: 'EEXIST', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'a dangling link', path: 'dangling', errno: 'EEXIST', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'the directory itself', path: '.', errno: 'EEXIST', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'its parent', path: 'other/..', errno: 'EEXIST', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'a slash at the end', path: 'new/', errno: 'ENOENT', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'a name of 256 bytes', path: long, errno: 'ENAMETOOLONG', verdict: 'errno', reason: 'kernelAnswered' },
    { what: 'no such directory', path: 'none/n', errno: 'ENOENT', verdict: 'continue', reason: 'pathNotResolved' },
    { what: 'a file as directory', path: 'file/n', errno: 'ENOTDIR', verdict: 'continue', reason: 'pathNotResolved' },
    { what: 'links in a circle', path: 'loop/n', errno: 'ELOOP', verdict: 'continue', reason: 'crossesProc' },
    { what: 'a directory of the host', path: 'other/n', errno: 'EACCES', verdict: 'errno', reason: 'kernelAnswered' },
    {
      what: 'behind a closed directory of the host',
      path: 'closed/open/n',
      errno: 'EACCES',
      verdict: 'continue',
      reason: 'pathNotResolved',
    },
    {
      what: 'mem',
      path: 'mem',
      node: ['020666', 1, 1],
      errno: 'EPERM',
      verdict: 'continue',
      reason: 'deviceNotAllowed',
    },
  ])('$what: $errno', async ({ path, errno, verdict, reason, node = ['020666', 1, 3] }) => {
    const { result, records } = await host.call(
      ['mknod', `${join(dir, '.')}/${path}`, ...node.map(String)],
      ['--pidns'],
    )
    expect(result).toBe(errno)
    expect(records).toMatchObject([{ verdict, reason }])
  })

  test('a block device', async () => {
    const { result, records } = await host.call(['mknod', fresh(), '060666', '1', '3'])
    expect({ result, records }).toMatchObject({ result: 'EPERM', records: [{ reason: 'notCharDevice' }] })
  })

  test('the whiteout of overlayfs is made by the kernel', async () => {
    const path = fresh()
    const { result, records } = await host.call(['mknod', path, '020000', '0', '0'])
    expect(result).toBe('ok')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'kernelMakesWhiteouts' }])
    expect(nodeAt(path).rdev).toBe(0)
  })

  test('by a user without the capability', async () => {
    const open = directory(join(dir, 'open'), BASE, 0o777)
    const { result, records } = await host.call(
      ['mknod', join(open, 'n'), '020666', '1', '3'],
      ['--uid', '1000', '--gid', '1000'],
    )
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'lacksCapability', a: 27 }])
  })

  test('by root of a child user namespace', async () => {
    const { result, records } = await host.call(['--userns', 'mknod', fresh(), '020666', '1', '3'])
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'childUserns' }])
  })

  test.each([
    { who: 'root', said: { ok: true }, reason: { reason: 'hostCapability', a: 27 }, refused: false },
    { who: 'a user', user: USER, said: { errno: 'EPERM' } },
    { who: 'root of a child user namespace', child: ['--userns'], said: { errno: 'EPERM' } },
    {
      who: 'a user who makes a whiteout',
      user: USER,
      dev: ['020000', '0', '0'],
      said: { ok: true },
      reason: { reason: 'kernelMakesWhiteouts' },
      refused: false,
    },
  ])(
    'in a container without a user namespace of its own all is left to the kernel, and refused is what that refuses: $who',
    async ({
      user = [],
      child = [],
      dev = ['020666', '1', '1'],
      said,
      reason = { reason: 'hostUserns' },
      refused = true,
    }) => {
      const path = join(directory(join(dir, `open${serial++}`), BASE, 0o777), 'n')
      const before = host.records.length
      const caller = [fixture('caller'), ...child, 'mknod', path, ...dev]
      const done = await execute(fixture('filtered'), [host.socket, '--await-agent', ...user, '--', ...caller])
      await host.settle(before)
      expect(JSON.parse(done.stdout)).toEqual(said)
      expect(host.records.at(-1)).toMatchObject({ verdict: 'continue', ...reason })
      expect(isRefusal(host.records.at(-1)!)).toBe(refused)
      expect(host.events.findLast((event) => event.type === 'registered')).toMatchObject({ barred: 'hostUserns' })
    },
  )

  test.skipIf(notCopied).each(['tmpfs', 'ramfs'])(
    withReason('in a %s of the container a node of ours is mounted, which works', notCopied),
    async (fstype) => {
      if (!existsSync(join(dir, 'mnt'))) directory(join(dir, 'mnt'), BASE, 0o755)
      const at = `${dir}/mnt`
      const script = [
        `mount -t ${fstype} none ${at} && cd ${at} && umask 027`,
        'mkdir -m 2775 sgid; chgrp 7 sgid 2>/dev/null',
        `${fixture('caller')} mknod n 020666 1 3`,
        `${fixture('caller')} mknod sgid/z 020640 1 5`,
        'stat -c "%F %t:%T %a %u:%g" n sgid/z',
        'echo lost >n && head -c 3 sgid/z | wc -c',
        `${fixture('caller')} mknod n 020666 1 3`,
        `umount n && stat -c "%F %t:%T %a" n && rm n`,
        `${fixture('caller')} --umask 0 mknod bits 027777 1 9 && stat -c %a bits`,
      ].join('; ')
      const done = await host.run([], ['unshare', '--mount', 'sh', '-c', script])
      expect(done.stderr).toBe('')
      expect(done.stdout.split('\n')).toEqual([
        ...[
          '{"ok":true}',
          '{"ok":true}',
          'character special file 1:3 640 0:0',
          'character special file 1:5 640 0:7',
          '3',
        ],
        ...['{"errno":"EEXIST"}', 'character special file 1:3 640', '{"ok":true}', '7777', ''],
      ])
    },
  )

  /** The host's root may not even search it. That says nothing of who mounted it, and must not be kept for when it is opened. */
  test.skipIf(notCopied).each(['', 'gid=7,', 'uid=9,'])(
    withReason('in a tmpfs of the container that is closed to others a node works, too (%s)', notCopied),
    async (ids) => {
      const at = directory(join(dir, `closed${serial++}`), BASE, 0o755)
      const script = [
        `mount -t tmpfs -o ${ids}mode=0700 none ${at} && cd ${at}`,
        `${fixture('caller')} mknod n 020666 1 3 && echo lost >n && stat -c "%F %t:%T" n`,
        'chmod 755 .',
        `${fixture('caller')} mknod c 020666 1 3 && echo lost >c && stat -c "%F %t:%T" c`,
      ].join('; ')
      const done = await host.run(['--pidns'], ['unshare', '--mount', 'sh', '-c', script])
      const works = '{"ok":true}\ncharacter special file 1:3\n'
      expect(done).toMatchObject({ stdout: works + works, stderr: '' })
    },
  )

  /** No capability helps where an idmapped mount does not map a group: linux/kernel/capability.c privileged_wrt_inode_uidgid() */
  test.skipIf(notCopied)(
    withReason('a directory that nobody else may ever search tells nothing of others on its mount', notCopied),
    async () => {
      const [source, shown] = ['partly', 'mapped'].map((name) => directory(join(dir, name), BASE, 0o755)) as [
        string,
        string,
      ]
      const script = [
        `mount -t tmpfs none ${source} && cd ${source} && mkdir -m 700 closed open && chgrp 7 closed`,
        `mount --bind -o X-mount.idmap="u:0:0:65536 g:0:0:6" ${source} ${shown} && cd ${shown}`,
        // What is known, each thread knows for itself.
        `for turn in $(seq 20); do ${fixture('caller')} mknod closed/n 020666 1 3; done`,
        `${fixture('caller')} mknod open/n 020666 1 3 && echo lost >open/n && stat -c "%F %t:%T" open/n`,
      ].join('; ')
      const done = await host.run([], ['unshare', '--mount', 'sh', '-c', script])
      const works = '{"ok":true}\ncharacter special file 1:3\n'
      expect(done).toMatchObject({ stdout: '{"errno":"EACCES"}\n'.repeat(20) + works, stderr: '' })
    },
  )

  test.skipIf(notCopied)(
    withReason(
      'a nodev mount of the host, for a container without mounts of its own: nothing is mounted on the host',
      notCopied,
    ),
    async () => {
      const path = directory(join(dir, 'nodev'), BASE, 0o755)
      await execute('mount', ['-t', 'tmpfs', '-o', `nodev,uid=${BASE}`, 'intercede-test', path])
      try {
        const { result, records } = await host.call(['mknod', join(path, 'n'), '020666', '1', '3'])
        expect(result).toBe('ok')
        expect(records).toMatchObject([{ verdict: 'act', reason: 'doneOnNodev' }])
        expect(nodeAt(join(path, 'n'))).toEqual({ mode: '20644', rdev: 259, uid: BASE, gid: BASE })
        expect(readFileSync('/proc/self/mountinfo', 'latin1')).not.toContain(join(path, 'n'))
        const done = await host.run(
          [],
          ['unshare', '--mount', 'sh', '-c', `${fixture('caller')} mknod ${path}/m 020666 1 3 && echo x >${path}/m`],
        )
        expect(done).toMatchObject({ stdout: '{"ok":true}\n', stderr: '' })
        expect(nodeAt(join(path, 'm'))).toEqual({ mode: '20644', rdev: 259, uid: BASE, gid: BASE })
      } finally {
        await execute('umount', [path])
      }
    },
  )

  test('a tmpfs of the host holds a node', async () => {
    const path = directory(join(dir, 'tmpfs'), BASE, 0o755)
    await execute('mount', ['-t', 'tmpfs', '-o', `uid=${BASE}`, 'intercede-test', path])
    try {
      expect(await host.call(['mknod', join(path, 'n'), '020666', '1', '3'])).toMatchObject({ result: 'ok' })
      expect(await host.call(['mknod', join(path, 'n'), '020666', '1', '3'])).toMatchObject({ result: 'EEXIST' })
    } finally {
      await execute('umount', [path])
    }
  })

  /** No id of the host's root is mapped there either, as on a tmpfs that the container mounted. */
  test('an idmapped mount of a tmpfs of the host holds a node', async ({ skip }) => {
    const notShifted = cannotShift('tmpfs', 'none')
    if (notShifted) skip(notShifted)
    const [source, shown] = ['source', 'shown'].map((name) => directory(join(dir, name), 0, 0o755)) as [string, string]
    await execute('mount', ['-t', 'tmpfs', 'intercede-test', source])
    await execute('mount', ['--bind', '-o', `X-mount.idmap=b:0:${BASE}:65536`, source, shown])
    try {
      const script = `${fixture('caller')} mknod ${shown}/n 020666 1 3 && echo lost >${shown}/n && stat -c %F ${shown}/n`
      const done = await host.run([], ['sh', '-c', script])
      expect(done).toMatchObject({ stdout: '{"ok":true}\ncharacter special file\n', stderr: '' })
      expect(nodeAt(join(source, 'n'))).toMatchObject({ rdev: 0x103, uid: 0, gid: 0 })
    } finally {
      await execute('umount', [shown])
      await execute('umount', [source])
    }
  })

  test.skipIf(notCopied)(
    withReason(
      'on an idmapped mount of a tmpfs of the container a node of ours is mounted, for its own would not open',
      notCopied,
    ),
    async () => {
      const [source, shown] = ['inside', 'shifted'].map((name) => directory(join(dir, name), BASE, 0o755)) as [
        string,
        string,
      ]
      const script = [
        `mount -t tmpfs none ${source} && mount --bind -o X-mount.idmap=b:0:0:65536 ${source} ${shown}`,
        `${fixture('caller')} mknod ${shown}/n 020666 1 3 && echo lost >${shown}/n && stat -c %F ${shown}/n ${source}/n`,
      ].join('; ')
      const done = await host.run([], ['unshare', '--mount', 'sh', '-c', script])
      expect(done).toMatchObject({
        stdout: '{"ok":true}\ncharacter special file\ncharacter special file\n',
        stderr: '',
      })
    },
  )

  test('a read-only mount', async () => {
    const path = directory(join(dir, 'readonly'), BASE, 0o755)
    await execute('mount', ['-t', 'tmpfs', '-o', `ro,uid=${BASE}`, 'intercede-test', path])
    try {
      expect(await host.call(['mknod', join(path, 'n'), '020666', '1', '3'])).toMatchObject({ result: 'EROFS' })
    } finally {
      await execute('umount', [path])
    }
  })
})

describe('capabilities over files count where the owner and the group are of the container', () => {
  const OTHER = BASE + 1000
  beforeAll(() => {
    directory(join(dir, 'theirs'), OTHER, 0o700)
    directory(join(dir, 'theirs/deep'), OTHER + 1, 0o700)
    directory(join(dir, 'theirs/host'), 0, 0o700)
    directory(join(dir, 'theirs/host/deep'), OTHER, 0o700)
    directory(join(dir, 'half'), OTHER, 0o700)
    chownSync(join(dir, 'half'), OTHER, 0)
    directory(join(dir, 'mine'), BASE, 0o000)
    symlinkSync('theirs/deep', join(dir, 'to-theirs'))
    symlinkSync('theirs/host/deep', join(dir, 'to-host'))
  })

  test.each([
    { path: 'theirs/n', result: 'ok' },
    { path: 'theirs/deep/n', result: 'ok' },
    { path: 'to-theirs/n2', result: 'ok' },
    { path: 'mine/n', result: 'ok' },
    { path: 'theirs/none/n', result: 'ENOENT' },
    { path: 'theirs/host/n', result: 'EACCES' },
    { path: 'theirs/host/deep/n', result: 'EACCES' },
    { path: 'to-host/n', result: 'EACCES' },
    { path: 'half/n', result: 'EACCES' },
  ])('$path: $result', async ({ path, result }) => {
    expect(await host.call(['mknod', join(dir, path), '020666', '1', '3'], ['--pidns'])).toMatchObject({ result })
    if (result === 'ok') expect(lstatSync(join(dir, path)).isCharacterDevice()).toBe(true)
  })

  test('a user without capabilities over files is refused', async () => {
    const options = ['--pidns', '--uid', '5', '--gid', '5']
    expect(await host.call(['mknod', join(dir, 'theirs/u'), '020666', '1', '3'], options)).toMatchObject({
      result: 'EACCES',
    })
  })

  test('a container that sees the processes of the host has no walker', async () => {
    const { result, records } = await host.call(['mknod', join(dir, 'theirs/deep/v'), '020666', '1', '3'])
    expect(result).toBe('EPERM')
    expect(records).toMatchObject([{ verdict: 'continue', reason: 'noWalker' }])
  })
})

describe('what an engine left that ended during the act', () => {
  const dev = makedev(1, 3)
  /** Whether the next engine takes the node for that of a call that came this long after the node was made. */
  function isTaken(ms: number, note: bigint): boolean {
    const name = `left${serial++}`
    const path = join(dir, name)
    using parent = openat(AT_FDCWD, cstring(dir), O_PATH | O_DIRECTORY)
    const act = { dir: parent, name: cstring(name) as PathBytes, mode: 0o20666 as Mode, dev }
    mknodat(act.dir, act.name, act.mode, dev)
    const trace = { since: lstatSync(path).birthtimeMs + ms, note }
    return mknod.recover!(act, standIn({ commands: () => false }), trace) !== undefined
  }

  test('is done where the clock of its file system lags, as in a virtual machine that gets no time', () => {
    expect(isTaken(0, WAS_NOT)).toBe(true)
    expect(isTaken(500, WAS_NOT)).toBe(true)
  })

  test('is not done where the node is older, or was there before', () => {
    expect(isTaken(5000, WAS_NOT)).toBe(false)
    expect(isTaken(0, 0n)).toBe(false)
  })
})
