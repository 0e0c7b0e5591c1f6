import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RLIM_INFINITY, RLIMIT } from '../../../src/abi/rlimit.ts'
import { makedev } from '../../../src/abi/stat.ts'
import { harmless } from '../../../src/policy/devices.ts'
import { fullName } from '../../../src/policy/key.ts'
import { type KeyName, keyNames, keys } from '../../../src/policy/keys.ts'
import { defaults, effective, parsePolicy, settle } from '../../../src/policy/settings.ts'

const P = 'security.syscalls.intercept.'
const BOOLEAN = 'true, 1, yes, on, false, 0, no or off'
const LIMITS = 'a list of RESOURCE=LIMIT such as nofile=1048576,memlock=2G'
const ATTRIBUTES = 'a list of names such as security.NTACL, and of beginnings such as trusted.glusterfs.*'
const DEVICES = 'a list of c:MAJOR:MINOR such as c:10:200, majors to 4095, minors to 1048575, and of "granted"'

describe('parsePolicy()', () => {
  test('gives nothing by default', () => expect(parsePolicy([])).toEqual({}))

  test('reads every key', () => {
    const policy = parsePolicy([
      ['mknod', 'YES'],
      ['mknod.devices', 'c:10:200, c:10:229,'],
      ['bpf', '1'],
      ['bpf.devices', 'on'],
      ['bpf.delegate_cmds', 'prog_load, map_create'],
      ['bpf.delegate_maps', 'hash'],
      ['bpf.delegate_progs', 'xdp'],
      ['bpf.delegate_attachs', 'xdp,tcx_ingress'],
      ['mount', 'true'],
      ['mount.allowed', 'xfs'],
      ['mount.fuse', 'ext4=fuse2fs,squashfs=/usr/bin/squashfuse'],
      ['mount.shift', 'true'],
      ['mount.nodev', 'off'],
      ['sched_setscheduler', 'true'],
      ['sched_setscheduler.max_priority', '7'],
      ['sched_setscheduler.min_nice', '-7'],
      ['sched_setscheduler.ioprio', 'yes'],
      ['rlimits', 'true'],
      ['rlimits.allowed', 'memlock=2G, nofile = 1024, nofile=65536,core=unlimited'],
      ['setxattr', 'true'],
      ['setxattr.allowed', 'security.NTACL, trusted.glusterfs.*,'],
      ['setxattr.read', 'true'],
      ['sysinfo', 'true'],
    ])
    expect(policy).toEqual({
      mknod: { devices: new Set([...harmless, makedev(10, 200), makedev(10, 229)]) },
      bpf: {
        devices: true,
        delegateCmds: new Set(['prog_load', 'map_create']),
        delegateMaps: new Set(['hash']),
        delegateProgs: new Set(['xdp']),
        delegateAttachs: new Set(['xdp', 'tcx_ingress']),
      },
      mount: {
        allowed: new Set(['xfs']),
        fuse: new Map([
          ['ext4', 'fuse2fs'],
          ['squashfs', '/usr/bin/squashfuse'],
        ]),
        shift: true,
        nodev: false,
      },
      schedSetscheduler: { maxPriority: 7, minNice: -7, ioprio: true },
      rlimits: {
        allowed: new Map([
          [RLIMIT.CORE, RLIM_INFINITY],
          [RLIMIT.NOFILE, 65_536n],
          [RLIMIT.MEMLOCK, 1n << 31n],
        ]),
      },
      setxattr: { allowed: new Set(['security.NTACL', 'trusted.glusterfs.*']), read: true },
      sysinfo: {},
    })
    expect(structuredClone(policy)).toEqual(policy)
  })

  test('takes the last of two entries of different origin', () => {
    expect(
      parsePolicy([
        ['sysinfo', 'true', { kind: 'configuration' }],
        ['sysinfo', 'false', { kind: 'metadata' }],
      ]),
    ).toEqual({})
  })

  test.each([
    ['sysinfo', 'false'],
    [fullName('sysinfo'), 'no'],
  ])('refuses two values of one origin: %s', (key, value) => {
    expect(() =>
      parsePolicy([
        ['sysinfo', 'true'],
        [key, value],
      ]),
    ).toThrow(/sysinfo is given twice, as "true" and "false"; give it once$/)
  })

  test('takes one value twice', () => {
    expect(
      parsePolicy([
        ['sysinfo', 'true'],
        [fullName('sysinfo'), 'yes'],
      ]),
    ).toEqual({ sysinfo: {} })
  })

  test('writes limits in the order of their numbers, bytes with units, and of several values the highest', () => {
    const { canonical } = keys['rlimits.allowed']
    expect(canonical('MEMLOCK=2097152k, nofile=1024,nofile=1m,core=UNLIMITED,stack=1000')).toBe(
      'stack=1000,core=unlimited,nofile=1048576,memlock=2G',
    )
  })

  test('leaves out attributes that another entry stands for', () => {
    const allowed = 'trusted.a.b,trusted.a.*,security.NTACL,trusted.a.b.*'
    expect(keys['setxattr.allowed'].canonical(allowed)).toBe('trusted.a.*,security.NTACL')
  })

  test('protects by default', () => {
    expect(parsePolicy([['mount', 'true']]).mount).toMatchObject({ nodev: true, shift: false })
    expect(parsePolicy([['sched_setscheduler', 'true']]).schedSetscheduler).toEqual({
      ...{ maxPriority: 49, minNice: 0, ioprio: false },
    })
  })

  test.each([
    ['mknod', 'maybe', `: not a boolean, allowed is ${BOOLEAN}`],
    ['mount.nodev', '', `: not a boolean, allowed is ${BOOLEAN}`],
    ['sched_setscheduler.max_priority', '0', ': out of range, allowed is a whole number from 1 to 99'],
    ['sched_setscheduler.max_priority', '100', ': out of range, allowed is a whole number from 1 to 99'],
    ['sched_setscheduler.max_priority', '1e1', ': out of range, allowed is a whole number from 1 to 99'],
    [
      'mknod.devices',
      'b:8:0',
      `: "b:8:0" is a block device, of which no number can be listed; granted allows those that the container's device rules allow, allowed is ${DEVICES}`,
    ],
    [
      'mknod.devices',
      'c:1:1',
      `: "c:1:1" would give the container the memory of the host (/dev/mem), allowed is ${DEVICES}`,
    ],
    [
      'mknod.devices',
      'c:21:3',
      `: "c:21:3" would give the container raw access to the disks of the host (/dev/sg*), allowed is ${DEVICES}`,
    ],
    ['mknod.devices', 'c:4096:0', `: "c:4096:0" is out of range, allowed is ${DEVICES}`],
    ['mknod.devices', 'c:1:1048576', `: "c:1:1048576" is out of range, allowed is ${DEVICES}`],
    ['mknod.devices', '/dev/null', `: "/dev/null" is no device, allowed is ${DEVICES}`],
    [
      'mount.allowed',
      'ext4;xfs',
      ': "ext4;xfs" is no name of a file system, allowed is a list of file systems such as ext4,xfs',
    ],
    [
      'mount.allowed',
      'xfs,EXT4',
      ': no file system has capitals as in "EXT4": write "ext4", allowed is a list of file systems such as ext4,xfs',
    ],
    [
      'mount.allowed',
      'ext4,zfs',
      ': "zfs" would mount any file system of the pools of the host; mount.fuse can name a program that runs in the container, allowed is a list of file systems such as ext4,xfs',
    ],
    [
      'rlimits.allowed',
      'nproc=4096',
      `: "nproc" cannot be listed: the kernel counts it for a whole user namespace, with the limits that its maker had, allowed is ${LIMITS}`,
    ],
    [
      'rlimits.allowed',
      'rtprio=99',
      `: "rtprio" cannot be listed: sched_setscheduler is for that, and keeps the engine ahead of the container, allowed is ${LIMITS}`,
    ],
    ['rlimits.allowed', 'nofiles=9', `: "nofiles" is no resource (did you mean "nofile"?), allowed is ${LIMITS}`],
    [
      'rlimits.allowed',
      'nofile',
      `: "nofile" has no value, which is a number such as 4096 or 2G, or "unlimited", allowed is ${LIMITS}`,
    ],
    [
      'rlimits.allowed',
      'core=18446744073709551615',
      `: "core=18446744073709551615" has no value, which is a number such as 4096 or 2G, or "unlimited", allowed is ${LIMITS}`,
    ],
    [
      'setxattr.allowed',
      'security.*',
      `: "security.*" covers security.selinux, which cannot be listed: SELinux decides by it, allowed is ${ATTRIBUTES}`,
    ],
    [
      'setxattr.allowed',
      'security.SMACK64IPIN',
      `: "security.SMACK64IPIN" cannot be listed: Smack decides by it, allowed is ${ATTRIBUTES}`,
    ],
    [
      'setxattr.allowed',
      'trusted.SGI_ACL_FILE',
      `: "trusted.SGI_ACL_FILE" cannot be listed: XFS keeps access control lists in it, with ids of the host, allowed is ${ATTRIBUTES}`,
    ],
    [
      'setxattr.allowed',
      'user.a',
      `: "user.a" begins with neither "security." nor "trusted.", and only for these the kernel wants a privilege, allowed is ${ATTRIBUTES}`,
    ],
    [
      'setxattr.allowed',
      'trusted.a*',
      `: "trusted.a*" may have "*" only at its end, after a dot, allowed is ${ATTRIBUTES}`,
    ],
    ['setxattr.allowed', 'trusted.', `: "trusted." is no name of an attribute, allowed is ${ATTRIBUTES}`],
    [
      'mount.fuse',
      'ext4',
      ': "ext4" does not name a program, allowed is a list of FILESYSTEM=PROGRAM such as ext4=fuse2fs,squashfs=squashfuse',
    ],
    [
      'mount.fuse',
      'ext4=a,ext4=b',
      ': "ext4" has two programs, allowed is a list of FILESYSTEM=PROGRAM such as ext4=fuse2fs,squashfs=squashfuse',
    ],
  ])('refuses %s=%s', (key, value, hint) => {
    const place = { file: 'x.conf', line: 3 }
    const message = `Cannot read policy "x.conf": ${P}${key} is ${JSON.stringify(value)} at line 3${hint}`
    expect(() => parsePolicy([[key, value, { kind: 'metadata' }, place]])).toThrow(
      expect.objectContaining({ message: message }),
    )
  })

  test.each(['true', 'false'])('refuses a file system in both lists while mount is %s', (mount) => {
    const entries = [
      ['mount', mount],
      ['mount.allowed', 'xfs,ext4'],
      ['mount.fuse', 'ext4=fuse2fs'],
    ] as const
    expect(() => parsePolicy(entries)).toThrow(
      expect.objectContaining({
        message: `Cannot read policy: the file system "ext4" is in both ${P}mount.allowed and ${P}mount.fuse, allowed is one of them`,
      }),
    )
  })

  test.each([
    ...[
      'nfs',
      'nfs4',
      'cifs',
      'smb3',
      'ceph',
      'afs',
      'zfs',
      'ubifs',
      'jffs2',
      'virtiofs',
      'gfs2',
      'devtmpfs',
      'debugfs',
    ],
    ...['efivarfs', 'zfs.x'],
  ])('refuses %s in mount.allowed, and takes it for mount.fuse', (type) => {
    expect(() => parsePolicy([['mount.allowed', type]])).toThrow(`"${type}" would `)
    expect(parsePolicy([['mount.fuse', `${type}=program`]])).toEqual({})
  })

  test.each(['c:10:237', 'c:10:232', 'c:10:229', 'c:0:0', 'c:4095:1048575'])('allows the device %s', (device) => {
    expect(parsePolicy([['mknod.devices', device]])).toEqual({})
  })
})

test('effective() names every key once, with its canonical value and origin', () => {
  const lines = effective(settle([['mknod', 'On', { kind: 'profile', name: 'build' }]]))
  expect(lines.map(({ key }) => key)).toEqual(keyNames.map((name) => `${P}${name}`))
  expect(lines[0]).toEqual({ key: `${P}mknod`, text: 'true', origin: { kind: 'profile', name: 'build' } })
  expect(lines[12]).toEqual({ key: `${P}mount.nodev`, text: 'true', origin: { kind: 'default' } })
})

test('the default of every key is canonical', () => {
  for (const name of keyNames) expect(keys[name].canonical(keys[name].default)).toBe(keys[name].default)
})

describe('types of values', () => {
  const texts: Record<KeyName, fc.Arbitrary<string>> = Object.fromEntries(
    keyNames.map((name) => {
      if (name === 'mknod.devices') {
        const device = fc.tuple(fc.integer({ min: 300, max: 4095 }), fc.integer({ min: 0, max: 1048575 }))
        return [name, fc.array(device).map((list) => list.map(([a, b]) => `c:${a}:${b}`).join(' ,'))]
      }
      const system = fc.constantFrom('ext4', 'xfs', 'fuse.sshfs', '9p')
      if (name === 'mount.allowed') return [name, fc.array(system).map(String)]
      if (name === 'mount.fuse')
        return [name, fc.uniqueArray(system).map((list) => list.map((fs) => `${fs}=${fs}-fuse`).join())]
      if (name === 'setxattr.allowed') {
        const entry = fc.constantFrom('security.NTACL', 'trusted.a.*', 'trusted.a.b', 'trusted.a.b.*', 'trusted.a.b.c')
        return [name, fc.array(entry).map(String)]
      }
      if (name === 'rlimits.allowed') {
        const most = fc.oneof(fc.constantFrom('unlimited', '2G', '1k'), fc.nat(4096).map(String))
        const resource = fc.constantFrom('nofile', 'memlock', 'CORE', 'rttime')
        return [name, fc.array(fc.tuple(resource, most)).map((list) => list.map((pair) => pair.join('=')).join())]
      }
      if (name.startsWith('bpf.delegate_')) return [name, fc.array(fc.constantFrom(...keys[name].offered)).map(String)]
      if (name === 'mode') return [name, fc.constantFrom('enforce', 'Observe', 'observe')]
      if (name.endsWith('max_priority')) return [name, fc.integer({ min: 1, max: 99 }).map(String)]
      if (name.endsWith('min_nice')) return [name, fc.integer({ min: -20, max: 0 }).map(String)]
      return [name, fc.constantFrom('true', 'YES', 'On', '1', 'false', 'no', 'OFF', '0')]
    }),
  ) as Record<KeyName, fc.Arbitrary<string>>

  test.each(keyNames)('%s: canonical text stays as it is, and lowers() is an order', (name) => {
    fc.assert(
      fc.property(texts[name], texts[name], texts[name], (...given) => {
        const [a, b, c] = given.map((text) => keys[name].canonical(text)) as [string, string, string]
        const lowers = (x: string, y: string) => keys[name].lowers(x, y)
        expect(keys[name].canonical(a)).toBe(a)
        expect(keys[name].parse(a)).toEqual(keys[name].parse(given[0]!))
        expect(lowers(a, a)).toBe(true)
        if (lowers(a, b) && lowers(b, c)) expect(lowers(a, c)).toBe(true)
        if (lowers(a, b) && lowers(b, a)) expect(keys[name].parse(a)).toEqual(keys[name].parse(b))
      }),
    )
  })

  test.each(keyNames)('%s: meet() is the most that both values permit', (name) => {
    fc.assert(
      fc.property(texts[name], texts[name], texts[name], (...given) => {
        const [a, b, c] = given.map((text) => keys[name].canonical(text)) as [string, string, string]
        const met = keys[name].meet(a, b)
        expect(keys[name].canonical(met)).toBe(met)
        expect(keys[name].lowers(a, met) && keys[name].lowers(b, met)).toBe(true)
        if (keys[name].lowers(a, c) && keys[name].lowers(b, c)) expect(keys[name].lowers(met, c)).toBe(true)
        if (keys[name].lowers(a, b)) expect(keys[name].parse(met)).toEqual(keys[name].parse(b))
      }),
    )
  })

  test.each([
    ['mknod', 'true', 'false', true],
    ['mknod', 'false', 'true', false],
    ['mount.nodev', 'false', 'true', true],
    ['mount.nodev', 'true', 'false', false],
    ['mount.allowed', 'ext4,xfs', 'xfs', true],
    ['mount.allowed', 'xfs', 'ext4', false],
    ['mount.fuse', 'ext4=a,xfs=b', 'xfs=b', true],
    ['mount.fuse', 'ext4=a', 'ext4=b', false],
    ['mknod.devices', 'c:10:200', '', true],
    ['mknod.devices', '', 'c:10:200', false],
    ['sched_setscheduler.max_priority', '49', '9', true],
    ['sched_setscheduler.max_priority', '49', '50', false],
    ['rlimits.allowed', 'nofile=unlimited', 'nofile=65536', true],
    ['rlimits.allowed', 'nofile=65536', 'nofile=65537', false],
    ['rlimits.allowed', 'nofile=65536', 'core=0', false],
    ['setxattr.allowed', 'trusted.glusterfs.*', 'trusted.glusterfs.a,trusted.glusterfs.b.*', true],
    ['setxattr.allowed', 'trusted.glusterfs.a', 'trusted.glusterfs.*', false],
    ['setxattr.allowed', 'trusted.glusterfs.*', 'trusted.glusterfs2', false],
  ] as const)('%s: from %j to %j lowers: %j', (name, from, to, lowers) => {
    expect(keys[name].lowers(from, to)).toBe(lowers)
  })
})

test('defaults give nothing that protects less', () => expect(defaults.get('mount.nodev')?.text).toBe('true'))
