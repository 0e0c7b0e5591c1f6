import { describe, expect, test, vi } from 'vitest'
import { errno } from '../../../src/abi/errno.ts'
import type { Caller, MemoryReader, Registers } from '../../../src/calls/caller.ts'
import type { Context, Parameter } from '../../../src/calls/context.ts'
import type { Mounts } from '../../../src/calls/mounts.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import { ContinueError, Refused, type Verdict } from '../../../src/calls/verdict.ts'
import { SyscallError } from '../../../src/kernel/error.ts'
import type { Fd } from '../../../src/kernel/fd.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { fsconfig, fsmount, fsopen } from '../../../src/syscalls/fs-context.ts'
import { mount } from '../../../src/syscalls/mount.ts'
import { isWritable, judgeOptions, optionsWithHostIds, withHostIds } from '../../../src/syscalls/mount-options.ts'
import { mountSetattr } from '../../../src/syscalls/mount-setattr.ts'
import { moveMount } from '../../../src/syscalls/move-mount.ts'
import { create, mountContext, reconfigure } from '../../../src/verbs/fs-context.ts'
import { placeMount } from '../../../src/verbs/mount.ts'
import { handle, registers, standIn } from '../../support/caller-stand-in.ts'

const policy = parsePolicy([
  ['mount', 'true'],
  ['mount.allowed', 'ext4,9p,fuseblk.ntfs,tmpfs,hugetlbfs'],
  ['mount.fuse', 'xfs=fusexfs'],
])
const bytes = (text: string) => Buffer.from(`${text}\0`) as never

/** A caller in whose container there is nothing: a source leads nowhere. */
const caller = (changes: Partial<Caller> = {}, mounts: Partial<Mounts> = {}): Caller =>
  standIn({
    mounts: {
      namespace: () => handle(9),
      tidy: () => {},
      context: () => undefined,
      unplaced: () => undefined,
      ...mounts,
    } as Mounts,
    object: (_, path) => {
      if (Buffer.from(path).toString().startsWith('/target')) return handle(7)
      throw new ContinueError('pathNotResolved', 2)
    },
    hostId: (_, id) => (id < 65536 ? id + 200_000 : undefined),
    ...changes,
  })

describe('mount.screen() leaves what makes no file system to the kernel', () => {
  test.each([
    { what: 'nothing', flags: 0n, reason: undefined },
    { what: 'ro and the magic', flags: 0xc0ed_0001n, reason: undefined },
    { what: 'a bind', flags: 4096n, reason: 'changesMounts' },
    { what: 'a remount and the magic', flags: 0xc0ed_0020n, reason: undefined },
    { what: 'a remount of one mount', flags: 0x1020n, reason: 'changesMounts' },
    { what: 'private', flags: 1n << 18n, reason: 'changesMounts' },
    { what: 'MS_NOUSER', flags: 1n << 31n, reason: 'changesMounts' },
  ])('$what: $reason', ({ flags, reason }) => {
    expect(mount.screen(registers(0n, 0n, 0n, flags), policy)?.why.code).toBe(reason)
    expect(mount.screen(registers(0n, 0n, 0n, flags), {})?.why.code).toBe('keyOff')
  })
})

const refusing = (code: ReasonCode): never => {
  throw new ContinueError(code)
}
const decided = (decide: () => Verdict): Verdict => {
  try {
    return decide()
  } catch (error) {
    return { is: 'continue', why: (error as ContinueError).why }
  }
}

describe('mount.decide()', () => {
  const request = { type: 'ext4', source: '/none', target: bytes('/target'), data: undefined, flags: 0n }

  test.each<{
    what: string
    change: Partial<typeof request> | { type: undefined }
    who?: Partial<Caller>
    reason: string
  }>([
    { what: 'a type that is not in the list', change: { type: 'btrfs' }, reason: 'fileSystemNotAllowed' },
    { what: 'one in capitals that is', change: { type: 'EXT4' }, reason: 'fileSystemMiswritten' },
    { what: 'one of the kernel in capitals', change: { type: 'TmpFS' }, reason: 'fileSystemMiswritten' },
    { what: 'one of FUSE in capitals', change: { type: 'XFS' }, reason: 'fileSystemMiswritten' },
    { what: 'one in capitals that is not', change: { type: 'BTRFS' }, reason: 'fileSystemMiswritten' },
    { what: 'no type', change: { type: undefined }, reason: 'changesMounts' },
    { what: 'a type of the kernel, which no list has', change: { type: 'overlay' }, reason: 'kernelMountsIt' },
    { what: 'a tmpfs, in capitals', change: { type: 'TMPFS' }, reason: 'fileSystemMiswritten' },
    { what: 'one of them that is rare', change: { type: 'binder' }, reason: 'kernelMountsIt' },
    { what: 'a type with a subtype of FUSE', change: { type: 'fuse.xfs' }, reason: 'kernelMountsIt' },
    { what: 'a type that takes descriptors', change: { type: '9p' }, reason: 'takesDescriptors' },
    { what: 'a subtype of one', change: { type: 'fuseblk.ntfs' }, reason: 'takesDescriptors' },
    { what: 'a child user namespace', change: {}, who: { inInitialUserns: false }, reason: 'childUserns' },
    { what: 'a caller without CAP_SYS_ADMIN', change: {}, who: { holds: () => false }, reason: 'lacksCapability' },
  ])('$what: left to the kernel, $reason', ({ change, who = {}, reason }) => {
    const verdict = mount.decide({ ...request, ...change } as never, caller(who), policy)
    expect(verdict).toMatchObject({ is: 'continue', why: { code: reason } })
  })

  test.each([
    { source: '/none', otherwise: 2 },
    { source: 'none', otherwise: 22 },
  ])('a type for FUSE is an act of its program: source $source', ({ source, otherwise }) => {
    const fuse = {
      ready: (program: string) => ({ program: `/bin/${program}`, process: {} }),
      mount: () => {},
      mounted: () => false,
    }
    const verdict = mount.decide({ ...request, type: 'xfs', source, flags: 1n } as never, caller({ fuse }), policy)
    expect(verdict).toMatchObject({
      is: 'act',
      act: {
        ...{ verb: 'fuse', program: '/bin/fusexfs', attributes: 1n, otherwise },
        args: ['-o', 'ro,allow_other,default_permissions', source, '/target'],
      },
    })
  })

  test('a target that does not resolve is left to the kernel', () => {
    expect(() => mount.decide({ ...request, target: bytes('/none') }, caller(), policy)).toThrow(ContinueError)
  })

  test('a source that leads nowhere is an act all the same: the kernel looks at the options first', () => {
    const verdict = mount.decide({ ...request, data: 'nonsense' } as never, caller(), policy)
    expect(verdict).toMatchObject({
      is: 'act',
      act: {
        verb: 'mount',
        call: { data: 'nonsense', source: { text: '/none', kind: { errno: 2 } }, nodev: true, shift: false },
      },
    })
  })

  test('a tmpfs is one of the host, if it is listed, of the root of the container: without a lock or a shift', () => {
    const tmpfs = { ...request, type: 'tmpfs', source: 'none', data: 'mode=700,gid=7' } as never
    const list = (...types: string[]) => ({ mount: { ...policy.mount!, allowed: new Set(types), shift: true } })
    expect(mount.decide(tmpfs, caller(), list('tmpfs'))).toMatchObject({
      is: 'act',
      act: { verb: 'mount', call: { nodev: false, shift: false, data: 'uid=200000,gid=200007,mode=700' } },
    })
    expect(mount.decide(tmpfs, caller(), list('ext4'))).toMatchObject({ why: { code: 'kernelMountsIt' } })
  })

  test.each([
    { type: 'ext4', source: undefined, code: 'namesHost' },
    { type: 'ext4', source: '/none', code: 'done' },
    { type: 'tmpfs', source: undefined, code: 'done' },
    { type: 'xfs', source: undefined, code: 'fuseNoRuntime' },
  ])('a source among the options of $type, beside $source: $code', ({ type, source, code }) => {
    const fuse = { ready: () => refusing('fuseNoRuntime'), mount: () => {}, mounted: () => false }
    const asked = { ...request, type, source, data: 'ro,source=mtd0' } as never
    expect(decided(() => mount.decide(asked, caller({ fuse }), policy)).why.code).toBe(code)
  })

  test('a source that hangs is no errno of the call', () => {
    const object = (_: number, path: Uint8Array) => {
      if (Buffer.from(path).toString().startsWith('/target')) return handle(7)
      throw new ContinueError('gone')
    }
    expect(() => mount.decide(request as never, caller({ object }), policy)).toThrow('gone')
  })
})

describe('options of a tmpfs', () => {
  test.each([...['size=1m', 'nr_inodes=5', 'mode=1777', 'huge=never', 'inode64', 'ro', 'sync', 'mpol=local']])(
    '%s is taken',
    (option) => expect(judgeOptions('tmpfs', option)).toBeUndefined(),
  )
  test.each([
    ...['noswap', 'quota', 'usrquota', 'grpquota_inode_hardlimit=5', 'casefold=utf8-12.1.0', 'strict_encoding', 'x'],
  ])('%s is not', (option) =>
    expect(judgeOptions('tmpfs', `size=1m,${option}`)).toMatchObject({ errno: 22, why: { code: 'notForAll' } }),
  )
})

describe('options that are about the machine', () => {
  test.each([
    { option: 'errors=panic', reason: 'endsMachine' },
    { option: 'fatal_errors=panic', reason: 'endsMachine' },
    { option: 'context="system_u:object_r:etc_t:s0:c1,c2"', reason: 'labelsFiles' },
    { option: 'smackfsroot=*', reason: 'labelsFiles' },
    { option: 'min_size=2M', reason: 'reservesPages' },
    { option: 'size=2M', reason: undefined },
    { option: 'fsid=boot', reason: 'namesHost' },
    { option: 'domain_id=boot', reason: 'namesHost' },
    { option: 'errors=continue', reason: undefined },
    { option: 'panic', reason: undefined },
  ])('$option: $reason', ({ option, reason }) => {
    expect(judgeOptions('ext4', `ro,${option},commit=7`)?.why.code).toBe(reason)
  })

  test('are refused as parameters of a context, and for FUSE they are the business of its program', () => {
    const known = { parameters: [], made: undefined } as unknown as Context
    const who = caller({}, { context: () => known })
    expect(fsconfig.decide({ fd: 3, command: 1, parameter: ['errors', 'panic'] }, who, policy)).toMatchObject({
      ...{ is: 'errno', errno: 22, why: { code: 'endsMachine' } },
    })
    expect(fsconfig.decide({ fd: 3, command: 0, parameter: ['errors=panic'] }, who, policy)).toMatchObject({
      ...{ is: 'errno', errno: 22, why: { code: 'endsMachine' } },
    })
    const request = { type: 'ext4', source: '/none', target: bytes('/target'), data: 'ro,errors=panic', flags: 0n }
    expect(mount.decide(request, caller(), policy)).toMatchObject({ is: 'errno', errno: 22 })
    const fuse = { ready: () => ({ program: '/x', process: {} }), mount: () => {}, mounted: () => false }
    expect(mount.decide({ ...request, type: 'xfs' }, caller({ fuse }), policy)).toMatchObject({ is: 'act' })
  })
})

describe('contexts', () => {
  const told: Parameter[] = []
  const context = (changes: Partial<Context> = {}): Context => ({
    type: 'ext4',
    parameters: [['source', '/none']],
    made: undefined,
    picked: undefined,
    apply: () => {},
    handle: handle(5),
    name: { index: 1, serial: 1 },
    add: (parameter) => told.push(parameter) > 0,
    keep: () => {},
    fail: () => {},
    hasFailed: false,
    use: () => {},
    isUsed: false,
    endAfterCall: () => {},
    endOnceUnlocked: () => {},
    [Symbol.dispose]() {},
    ...changes,
  })
  const having = (changes: Partial<Context> = {}): Caller => caller({}, { context: () => context(changes) })

  test.each([
    { what: 'a flag', args: [3n, 0n, 0x1000n, 0n, 0n], reason: undefined },
    { what: 'a flag with a value', args: [3n, 0n, 0x1000n, 0x1000n, 0n], reason: 'changesMounts' },
    { what: 'a string', args: [3n, 1n, 0x1000n, 0x1000n, 0n], reason: undefined },
    { what: 'a string without a value', args: [3n, 1n, 0x1000n, 0n, 0n], reason: 'changesMounts' },
    { what: 'bytes', args: [3n, 2n, 0x1000n, 0x1000n, 1n], reason: undefined },
    { what: 'no bytes', args: [3n, 2n, 0x1000n, 0x1000n, 0n], reason: 'changesMounts' },
    { what: 'more bytes than a MiB', args: [3n, 2n, 0x1000n, 0x1000n, 0x100001n], reason: 'changesMounts' },
    { what: 'a path', args: [3n, 3n, 0x1000n, 0x1000n, 0xffffff9cn], reason: undefined },
    { what: 'a path from nowhere', args: [3n, 4n, 0x1000n, 0x1000n, 0xffffffffn], reason: 'changesMounts' },
    { what: 'a descriptor', args: [3n, 5n, 0x1000n, 0n, 7n], reason: undefined },
    { what: 'a descriptor below 0', args: [3n, 5n, 0x1000n, 0n, 0xffffffffn], reason: 'changesMounts' },
    { what: 'create', args: [3n, 6n, 0n, 0n, 0n], reason: undefined },
    { what: 'create with a key', args: [3n, 6n, 0x1000n, 0n, 0n], reason: 'changesMounts' },
    { what: 'reconfigure', args: [3n, 7n, 0n, 0n, 0n], reason: undefined },
    { what: 'reconfigure with a key', args: [3n, 7n, 0x1000n, 0n, 0n], reason: 'changesMounts' },
    { what: 'no command', args: [3n, 99n, 0n, 0n, 0n], reason: 'changesMounts' },
  ])('fsconfig.screen() of $what: $reason', ({ args, reason }) => {
    expect(fsconfig.screen(registers(...args), policy)?.why.code).toBe(reason)
  })

  test.each([
    { what: 'a parameter', parameter: ['commit', '7'] as const, noted: [['commit', '7']] },
    { what: 'a second source', parameter: ['source', '/other'] as const, noted: [] },
    { what: 'a source without a value', parameter: ['source'] as const, parameters: [], noted: [] },
    { what: 'the same again', parameter: ['source', '/none'] as const, noted: [] },
  ])('$what is told to the kernel too', ({ parameter, parameters = [['source', '/none']] as const, noted }) => {
    told.length = 0
    const verdict = fsconfig.decide({ fd: 3, command: 1, parameter }, having({ parameters }), policy)
    expect(verdict).toMatchObject({ is: 'continue', why: { code: 'contextTold' } })
    expect(told).toEqual(noted)
  })

  test.each([
    { what: 'too many parameters', command: 0, changes: { add: () => false }, is: 'errno', reason: 'contextFull' },
    { what: 'a parameter too late', command: 0, changes: { made: handle(4) }, is: 'errno', reason: 'contextOver' },
    {
      what: 'a parameter after fsmount',
      command: 0,
      changes: { made: handle(4), isUsed: true },
      is: 'continue',
      reason: 'contextTold',
    },
    { what: 'a descriptor as a flag of any type', command: 5, changes: {}, is: 'continue', reason: 'contextTold' },
    {
      what: 'a second create, which the act refuses',
      command: 6,
      changes: { made: handle(4) },
      is: 'act',
      reason: 'done',
    },
    {
      what: 'a create after a failed one',
      command: 6,
      changes: { hasFailed: true },
      is: 'errno',
      reason: 'contextOver',
    },
    { what: 'create', command: 6, changes: {}, is: 'act', reason: 'done' },
  ])('$what: $is, $reason', ({ command, changes, is, reason }) => {
    const verdict = fsconfig.decide({ fd: 3, command, parameter: ['ro'] }, having(changes), policy)
    expect(verdict).toMatchObject({ is, why: { code: reason } })
  })

  test.each([
    { type: 'ext4', is: 'continue', reason: 'contextTold' },
    { type: 'f2fs', is: 'errno', reason: 'parameterNotServed' },
  ])('a descriptor as a parameter of $type: $is, $reason', ({ type, is, reason }) => {
    told.length = 0
    const verdict = fsconfig.decide({ fd: 3, command: 5, parameter: ['own'] }, having({ type }), policy)
    expect(verdict).toMatchObject({ is, why: { code: reason } })
    expect(told).toEqual([])
  })

  test('a context that is not ours is the business of the kernel', () => {
    const foreign = { is: 'continue', why: { code: 'foreignContext' } }
    expect(fsconfig.decide({ fd: 3, command: 6, parameter: undefined }, caller(), policy)).toMatchObject(foreign)
    expect(fsmount.decide({ fd: 3, cloexec: true, attributes: 0n }, caller(), policy)).toMatchObject(foreign)
  })

  test('what another engine had begun is an act, also if it was done', () => {
    const begun = (changes: Partial<Context>): Caller => caller({ noted: 1n }, { context: () => context(changes) })
    const create = { fd: 3, command: 6, parameter: undefined }
    expect(fsconfig.decide(create, begun({ made: handle(4) }), policy)).toMatchObject({ is: 'act' })
    const request = { fd: 3, cloexec: true, attributes: 0n }
    const used = { made: handle(4), isUsed: true }
    const act = { verb: 'mountContext', anew: { type: 'ext4', exclusive: false } }
    expect(fsmount.decide(request, begun(used), policy)).toMatchObject({ is: 'act', act })
    expect(fsmount.decide(request, having(used), policy)).toMatchObject({ is: 'continue' })
    const again = caller({ mayComeAgain: true }, { context: () => context(used) })
    expect(fsmount.decide(request, again, policy)).toMatchObject({ is: 'act', act })
  })

  const acting = (mounts: Partial<Mounts>): Caller => caller({ note: () => {} }, mounts)
  const raising = (error: Error) => (): never => {
    throw error
  }

  test.each([
    { what: 'fail', error: new SyscallError('mount', errno('EINVAL')), failed: 1 },
    { what: 'go on when a signal has cancelled the call', error: new ContinueError('gone'), failed: 0 },
  ])('$what', ({ error, failed }) => {
    const fail = vi.fn()
    const who = acting({ create: raising(error), reconfigure: raising(error) })
    const description = { type: 'ext4', parameters: [], exclusive: false, source: { kind: { other: true } } } as const
    expect(() => create.run({ context: context({ fail }), description }, who)).toThrow(error)
    expect(() => reconfigure.run({ context: context({ fail }), picked: handle(4) }, who)).toThrow(error)
    expect(fail).toHaveBeenCalledTimes(2 * failed)
  })

  test('of which a file system is made are over for a second create', () => {
    expect(() => create.run({ context: context({ made: handle(4) }) }, acting({}))).toThrow(
      new Refused('contextOver', errno('EBUSY')),
    )
  })

  test('are mounted anew when a signal has cancelled the call that did: the kernel mounts each once', () => {
    const use = vi.fn()
    const finish = vi.fn<Mounts['finish']>(raising(new ContinueError('gone')))
    const anew = { type: 'ext4', parameters: [], exclusive: false, source: { kind: { other: true } } } as const
    const act = { made: handle(4), attributes: 0n, cloexec: true, manner: { shift: false, nodev: true } }
    expect(() => mountContext.run({ ...act, context: context({ use }) }, acting({ finish }))).toThrow('gone')
    expect(use).toHaveBeenCalledTimes(1)
    const who = acting({ finish, create: () => handle(8) as Fd })
    expect(() => mountContext.run({ ...act, context: context({ use, isUsed: true }), anew }, who)).toThrow('gone')
    expect(finish.mock.calls.map(([made]) => made.raw)).toEqual([4, 8])
  })

  test('fsmount before create is left to the kernel, after it is an act', () => {
    const request = { fd: 3, cloexec: true, attributes: 0n }
    expect(fsmount.decide(request, having(), policy)).toMatchObject({ is: 'continue', why: { code: 'contextUnready' } })
    expect(fsmount.decide(request, having({ made: handle(4) }), policy)).toMatchObject({
      is: 'act',
      act: { verb: 'mountContext', manner: { nodev: true, shift: false } },
    })
  })

  test('fsopen gives a context for what may be mounted', () => {
    const request = { type: 'ext4', cloexec: true }
    expect(fsopen.decide(request, caller(), policy)).toMatchObject({ is: 'act', act: { verb: 'openContext' } })
    const fused = fsopen.decide({ ...request, type: 'xfs' }, caller(), policy)
    expect(fused).toMatchObject({ is: 'errno', errno: 38, why: { code: 'fuseByMount' } })
    expect(fsopen.decide({ ...request, type: 'overlay' }, caller(), policy)).toMatchObject({ is: 'continue' })
    const asked = fsopen.decide({ ...request, type: undefined }, caller(), policy)
    expect(asked).toMatchObject({ is: 'continue', why: { code: 'changesMounts' } })
  })
})

describe('mounts that stand nowhere yet', () => {
  const unplaced = {
    type: 'ext4',
    parameters: [],
    handle: handle(5),
    name: { index: 1, serial: 1 },
    unlockedCopy: handle(6),
    manner: { shift: false, nodev: true },
    endAfterCall: () => {},
    endOnceUnlocked: () => {},
    [Symbol.dispose]() {},
  }
  const having = caller({}, { unplaced: () => unplaced })
  const request = { from: 4, fromPath: '', to: -100, toPath: '/target', flags: 4n }

  test('are placed by us', () => {
    expect(moveMount.decide(request, having, policy)).toMatchObject({ is: 'act', act: { verb: 'placeMount' } })
    expect(moveMount.decide({ ...request, fromPath: undefined }, having, policy)).toMatchObject({ is: 'act' })
  })

  test.each([
    { what: 'a path', change: { fromPath: 'x' }, who: having, reason: 'changesMounts' },
    { what: 'another mount', change: {}, who: caller(), reason: 'foreignMount' },
    { what: 'no target', change: { toPath: '' }, who: having, reason: 'pathNotResolved' },
  ])('$what: $reason', ({ change, who, reason }) => {
    expect(moveMount.decide({ ...request, ...change }, who, policy)).toMatchObject({
      is: 'continue',
      why: { code: reason },
    })
  })

  test('are placed already, perhaps, if a signal may have cancelled the call that placed them', () => {
    const again = caller({ mayComeAgain: true, object: () => handle(7) })
    const verdict = moveMount.decide(request, again, policy)
    expect(verdict).toMatchObject({ is: 'act', act: { verb: 'placeMount', handle: { raw: 7 } } })
    const act = { handle: handle(7), target: handle(7), namespace: handle(9) }
    expect(() => placeMount.run(act, again)).toThrow(new ContinueError('foreignMount'))
  })

  test.each([
    { what: 'noatime', set: 0x10n, clear: 0x70n, is: 'act' },
    { what: 'noatime, and nodev no more', set: 0x10n, clear: 0x74n, is: 'continue' },
    { what: 'noatime, and nodev again', set: 0x14n, clear: 0x74n, is: 'act' },
  ])('mount_setattr to $what: $is', ({ set, clear, is }) => {
    const who = caller({}, { unplaced: () => unplaced, attributes: () => 0n })
    const attributes = new Uint8Array(new BigUint64Array([set, clear, 0n, 0n]).buffer)
    expect(mountSetattr.decide({ fd: 4, path: '', attributes }, who, policy).is).toBe(is)
  })

  test.each([
    { what: 'zeros', last: 0, served: true },
    { what: 'members of a later kernel', last: 1, served: false },
  ])('mount_setattr with a struct that is longer, by $what', ({ last, served }) => {
    const args = { int: () => 4, pointer: (index: number) => (index === 4 ? 40n : 0x1000n) } as unknown as Registers
    const bytes = new Uint8Array(40)
    bytes[39] = last
    const memory = { bytes: () => bytes, string: () => '' } as unknown as MemoryReader
    if (served) expect(mountSetattr.decode(args, memory, {})).toMatchObject({ attributes: bytes.subarray(0, 32) })
    else expect(() => mountSetattr.decode(args, memory, {})).toThrow(new ContinueError('changesMounts'))
  })

  test('mount_setattr of a path, or of what we do not know, is left to the kernel', () => {
    const attributes = new Uint8Array(32)
    expect(mountSetattr.decide({ fd: 4, path: 'x', attributes }, having, policy)).toMatchObject({ is: 'continue' })
    expect(mountSetattr.decide({ fd: 4, path: '', attributes }, caller(), policy)).toMatchObject({
      is: 'continue',
      why: { code: 'foreignMount' },
    })
  })
})

describe('hugetlbfs belongs to ids of the container', () => {
  const who = caller()
  test.each([
    { options: '', host: 'uid=200000,gid=200000' },
    { options: 'uid=5,size=1M,gid=07', host: 'uid=200005,gid=200007,size=1M' },
    { options: 'uid=0x10', host: 'uid=200016,gid=200000' },
    { options: 'uid=70000,gid=x', host: 'uid=4294967295,gid=4294967295' },
    { options: 'uid=,uid=1', host: 'uid=4294967295,gid=200000' },
  ])('"$options": "$host"', ({ options, host }) => expect(optionsWithHostIds(who, 'tmpfs', options)).toBe(host))

  test('also by parameters', () => {
    expect(
      withHostIds(who, [
        ['source', 'none'],
        ['uid', '3'],
      ]),
    ).toEqual([
      ['uid', '200003'],
      ['gid', '200000'],
      ['source', 'none'],
    ])
  })
})

test.each([
  { options: [], byFlag: true, is: true },
  { options: [], byFlag: false, is: false },
  { options: ['ro'], byFlag: true, is: false },
  { options: ['rw'], byFlag: false, is: true },
  { options: ['rw', 'ro'], byFlag: true, is: false },
  { options: ['ro', 'rw', 'commit'], byFlag: false, is: true },
])('the last of ro and rw in $options tells whether a source is opened to write, else the flag', (row) => {
  expect(
    isWritable(
      row.options.map((option) => [option] as never),
      row.byFlag,
    ),
  ).toBe(row.is)
})
