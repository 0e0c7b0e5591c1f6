import { describe, expect, test } from 'vitest'
import type { PathBytes } from '../../../src/abi/brand.ts'
import type { Caller, MemoryReader } from '../../../src/calls/caller.ts'
import { ContinueError, type Verdict } from '../../../src/calls/verdict.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { xattrHandlers } from '../../../src/syscalls/xattr.ts'
import { handle, registers, standIn } from '../../support/caller-stand-in.ts'

const reading: Policy = { setxattr: { allowed: new Set(), read: true } }
const [PATH, NAME, VALUE, ARGS] = [0x1000n, 0x2000n, 0x3000n, 0x4000n]
const OPAQUE = 'trusted.overlay.opaque\0'
const AT_FDCWD = -100n
const GARBAGE = 0xdead_beef_0000_0000n

const called = (name: string) => xattrHandlers.find((handler) => handler.name === name)!

/** `struct xattr_args` that points at VALUE. */
function structure(size: number, flags: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16))
  view.setBigUint64(0, VALUE, true)
  view.setUint32(8, size, true)
  view.setInt32(12, flags, true)
  return new Uint8Array(view.buffer)
}

/** A caller with this memory; what is named by path is handle 7, what by descriptor 8. */
function callerWith(memory: ReadonlyMap<bigint, Uint8Array>, changes: Partial<Caller> = {}): Caller & MemoryReader {
  const at = (address: bigint): Uint8Array => {
    const bytes = memory.get(address)
    if (!bytes) throw new ContinueError('unreadable')
    return bytes
  }
  return standIn({
    bytes: (address, length) => at(address).subarray(0, length),
    string(address, limit = Number.POSITIVE_INFINITY) {
      const text = Buffer.from(at(address)).toString('latin1').replace(/\0.*/s, '')
      if (text.length >= limit) throw new ContinueError('unreadable')
      return text
    },
    path: (address) => at(address) as PathBytes,
    object: () => handle(7),
    descriptor: () => handle(8),
    ...changes,
  })
}

const memory = (name = OPAQUE, value = 'y', args = structure(1, 0)) =>
  new Map([
    [PATH, Buffer.from('f\0')],
    [NAME, Buffer.from(name)],
    [VALUE, Buffer.from(value)],
    [ARGS, args],
  ])

/** What a call comes to; what is thrown to pass it on is a verdict too. */
function ask(name: string, args: readonly bigint[], caller: Caller & MemoryReader, policy = reading): Verdict {
  const handler = called(name)
  const values = registers(...args, ...Array<bigint>(6 - args.length).fill(0n))
  try {
    return handler.screen(values, policy) ?? handler.decide(handler.decode(values, caller, policy), caller, policy)
  } catch (error) {
    if (error instanceof ContinueError) return { is: 'continue', why: error.why }
    throw error
  }
}

describe('each call says what is to be done with which inode', () => {
  const reads = { at: VALUE, size: 64 }
  test.each([
    { call: 'setxattr', args: [PATH, NAME, VALUE, 1n, 2n], act: { verb: 'setxattr', inode: { raw: 7 }, flags: 2 } },
    { call: 'lsetxattr', args: [PATH, NAME, VALUE, 1n, 0n], act: { verb: 'setxattr', inode: { raw: 7 }, flags: 0 } },
    { call: 'fsetxattr', args: [5n, NAME, VALUE, 1n, 1n], act: { verb: 'setxattr', inode: { raw: 8 }, flags: 1 } },
    { call: 'fsetxattr', args: [GARBAGE | 5n, NAME, VALUE, 1n, GARBAGE], act: { verb: 'setxattr', flags: 0 } },
    { call: 'setxattrat', args: [5n, PATH, 0n, NAME, ARGS, 16n], act: { verb: 'setxattr', inode: { raw: 7 } } },
    { call: 'setxattrat', args: [5n, 0n, 0x1000n, NAME, ARGS, 16n], act: { verb: 'setxattr', inode: { raw: 8 } } },
    { call: 'setxattrat', args: [5n, PATH, 0x1000n, NAME, ARGS, 16n], act: { verb: 'setxattr', inode: { raw: 7 } } },
    { call: 'getxattr', args: [PATH, NAME, VALUE, 64n], act: { verb: 'getxattr', inode: { raw: 7 }, ...reads } },
    { call: 'flistxattr', args: [5n, VALUE, 64n], act: { verb: 'listxattr', inode: { raw: 8 }, ...reads } },
    { call: 'listxattrat', args: [5n, PATH, 0n, VALUE, 64n], act: { verb: 'listxattr', ...reads } },
    { call: 'lremovexattr', args: [PATH, NAME], act: { verb: 'removexattr', inode: { raw: 7 } } },
    { call: 'removexattrat', args: [5n, PATH, 0n, NAME], act: { verb: 'removexattr', inode: { raw: 7 } } },
  ])('$call: $act.verb', ({ call, args, act }) => {
    expect(ask(call, args, callerWith(memory()))).toMatchObject({ is: 'act', act })
  })

  test('a symbolic link is followed, unless the call or its flags say that it is not', () => {
    const followed: boolean[] = []
    const caller = callerWith(memory(), {
      object: (_, __, follow) => {
        followed.push(follow)
        return handle(7)
      },
    })
    ask('setxattr', [PATH, NAME, VALUE, 1n, 0n], caller)
    ask('lsetxattr', [PATH, NAME, VALUE, 1n, 0n], caller)
    ask('setxattrat', [5n, PATH, 0n, NAME, ARGS, 16n], caller)
    ask('setxattrat', [5n, PATH, 0x100n, NAME, ARGS, 16n], caller)
    expect(followed).toEqual([true, false, true, false])
  })
})

describe('what is passed on', () => {
  const set = [PATH, NAME, VALUE, 1n, 0n]
  const setAt = [5n, PATH, 0n, NAME, ARGS, 16n]
  test('a struct of a newer kernel, with zeros behind what is known, is an act', () => {
    const longer = memory(OPAQUE, 'y', Buffer.concat([structure(1, 0), Buffer.alloc(8)]))
    expect(ask('setxattrat', [5n, PATH, 0n, NAME, ARGS, 24n], callerWith(longer))).toMatchObject({ is: 'act' })
  })

  test.each([
    { what: 'another name', call: 'setxattr', args: set, with: memory('trusted.a\0'), code: 'attributeNotListed' },
    {
      what: 'a name of security modules',
      call: 'setxattr',
      args: set,
      with: memory('security.ima\0'),
      code: 'attributeNeverServed',
    },
    { what: 'a name of users', call: 'setxattr', args: set, with: memory('user.a\0'), code: 'attributeOfAll' },
    {
      what: 'a longer name',
      call: 'setxattr',
      args: set,
      with: memory('trusted.overlay.opaquex\0'),
      code: 'attributeNeverServed',
    },
    { what: 'another value', call: 'setxattr', args: set, with: memory(OPAQUE, 'x'), code: 'otherAttribute' },
    {
      what: 'another size',
      call: 'setxattr',
      args: [PATH, NAME, VALUE, 2n, 0n],
      with: memory(),
      code: 'otherAttribute',
    },
    {
      what: 'a size in memory',
      call: 'setxattrat',
      args: setAt,
      with: memory(OPAQUE, 'y', structure(2, 0)),
      code: 'otherAttribute',
    },
    {
      what: 'an unknown flag',
      call: 'setxattr',
      args: [PATH, NAME, VALUE, 1n, 4n],
      with: memory(),
      code: 'invalidArgument',
    },
    {
      what: 'one in memory',
      call: 'setxattrat',
      args: setAt,
      with: memory(OPAQUE, 'y', structure(1, -1)),
      code: 'invalidArgument',
    },
    {
      what: 'an unknown flag of the path',
      call: 'setxattrat',
      args: [5n, PATH, 0x200n, NAME, ARGS, 16n],
      with: memory(),
      code: 'invalidArgument',
    },
    {
      what: 'a struct of another kernel, with something new',
      call: 'setxattrat',
      args: [5n, PATH, 0n, NAME, ARGS, 24n],
      with: memory(OPAQUE, 'y', Buffer.concat([structure(1, 0), Buffer.of(0, 0, 0, 0, 0, 0, 0, 1)])),
      code: 'invalidArgument',
    },
    {
      what: 'a struct that is too short',
      call: 'setxattrat',
      args: [5n, PATH, 0n, NAME, ARGS, 15n],
      with: memory(),
      code: 'invalidArgument',
    },
    {
      what: 'a struct beyond a page',
      call: 'setxattrat',
      args: [5n, PATH, 0n, NAME, ARGS, 4097n],
      with: memory(),
      code: 'invalidArgument',
    },
    {
      what: 'flags where none are known',
      call: 'getxattrat',
      args: setAt,
      with: memory(OPAQUE, 'y', structure(1, 1)),
      code: 'invalidArgument',
    },
    {
      what: 'a name that cannot be read',
      call: 'getxattr',
      args: [PATH, 0n, VALUE, 64n],
      with: memory(),
      code: 'unreadable',
    },
    {
      what: 'a path that cannot be read',
      call: 'setxattr',
      args: [0n, NAME, VALUE, 1n, 0n],
      with: memory(),
      code: 'unreadable',
    },
  ])('$what: $code', ({ call, args, with: there, code }) => {
    expect(ask(call, args, callerWith(there))).toMatchObject({ is: 'continue', why: { code } })
  })

  test.each([
    { name: 'trusted.a\0', why: { code: 'attributeNotListed', a: 0x6167, b: 0 } },
    { name: 'nonsense\0', why: { code: 'otherAttribute' } },
    { name: 'user.a\0', why: { code: 'attributeOfAll' } },
    { name: 'security.ima\0', why: { code: 'attributeOfAll' } },
    { name: OPAQUE, why: undefined },
  ])('the copy of the name "$name" decides without a look at the caller: $why.code', ({ name, why }) => {
    const getxattr = called('getxattr')
    const request = getxattr.decode(registers(PATH, NAME, VALUE, 1n, 0n), callerWith(memory(name)), reading)
    expect(getxattr.screenCopy?.(request)?.why).toEqual(why)
  })

  test.each<{ what: string; changes: Partial<Caller>; why: object }>([
    { what: 'in a child user namespace', changes: { inInitialUserns: false }, why: { code: 'childUserns' } },
    { what: 'without CAP_SYS_ADMIN', changes: { holds: () => false }, why: { code: 'lacksCapability', a: 21 } },
    { what: 'whose inode it is not', changes: { commands: () => false }, why: { code: 'notOfContainer' } },
  ])('a caller $what', ({ changes, why }) => {
    for (const [call, args] of [
      ['setxattr', set],
      ['listxattr', [PATH, VALUE, 64n]],
    ] as const)
      expect(ask(call, args, callerWith(memory(), changes))).toMatchObject({ is: 'continue', why })
  })

  test('removexattrat(2) of the working directory without a path, which the kernel does not know', () => {
    const empty = [AT_FDCWD, 0n, 0x1000n]
    expect(ask('removexattrat', [...empty, NAME], callerWith(memory()))).toMatchObject({
      why: { code: 'invalidArgument' },
    })
    expect(ask('listxattrat', [...empty, VALUE, 64n], callerWith(memory()))).toMatchObject({ is: 'act' })
  })

  test('everything that the policy does not serve', () => {
    const args = registers(...set, 0n)
    const off = { is: 'continue', why: { code: 'keyOff' } }
    expect(called('setxattr').screen(args, {})).toMatchObject(off)
    expect(called('getxattr').screen(args, { setxattr: { allowed: new Set<string>(), read: false } })).toMatchObject(
      off,
    )
    expect(called('setxattr').screen(args, { setxattr: { allowed: new Set<string>(), read: false } })).toBeUndefined()
  })
})

describe('attributes that the policy lists', () => {
  const listing: Policy = { setxattr: { allowed: new Set(['security.NTACL', 'trusted.glusterfs.*']), read: false } }
  const set = (name: string, value = 'value', size = value.length): Verdict =>
    ask('setxattr', [PATH, NAME, VALUE, BigInt(size), 0n], callerWith(memory(`${name}\0`, value)), listing)

  test.each([
    'security.NTACL',
    'trusted.glusterfs.volume-id',
    'trusted.glusterfs.',
    `trusted.glusterfs.${'n'.repeat(237)}`,
  ])('%s is set and removed, with any value', (name) => {
    const named = { inode: { raw: 7 }, name: Buffer.from(`${name}\0`) }
    for (const value of ['', 'v', 'v'.repeat(65_536)])
      expect(set(name, value)).toEqual({
        is: 'act',
        act: { verb: 'setxattr', ...named, inode: expect.anything(), value: Buffer.from(value), flags: 0 },
        why: { code: 'done' },
      })
    expect(ask('removexattr', [PATH, NAME], callerWith(memory(`${name}\0`)), listing)).toMatchObject({
      act: { verb: 'removexattr', ...named },
    })
  })

  test.each([
    ['security.NTACL2', 'attributeNotListed'],
    ['security.ntacl', 'attributeNotListed'],
    ['trusted.glusterfs', 'attributeNotListed'],
    ['trusted.overlay.redirect', 'attributeNeverServed'],
    ['security.SMACK64EXEC', 'attributeNeverServed'],
    ['security.capability', 'attributeOfAll'],
    ['user.glusterfs.a', 'attributeOfAll'],
    ['system.a', 'otherAttribute'],
    ['', 'otherAttribute'],
    [`trusted.glusterfs.${'n'.repeat(238)}`, 'unreadable'],
  ])('%s is left: %s', (name, code) => expect(set(name)).toMatchObject({ is: 'continue', why: { code } }))

  test('a size that the kernel refuses, and one that is negative', () => {
    for (const size of [65_537n, 0xffff_ffff_ffff_ffffn])
      expect(
        ask('setxattr', [PATH, NAME, VALUE, size, 0n], callerWith(memory('security.NTACL\0')), listing),
      ).toMatchObject({
        why: { code: 'invalidArgument' },
      })
  })

  test('the value is copied before anything can change it', () => {
    const value = Buffer.from('old')
    const caller = callerWith(memory('security.NTACL\0', 'old'), { bytes: () => Buffer.from(value) })
    const handler = called('setxattr')
    const request = handler.decode(registers(PATH, NAME, VALUE, 3n, 0n), caller, listing)
    value.write('new')
    expect(handler.decide(request, caller, listing)).toMatchObject({ act: { value: Buffer.from('old') } })
  })

  test('without setxattr.read, they are removed and not read', () => {
    const args = registers(PATH, NAME, VALUE, 64n)
    expect(called('getxattr').screen(args, listing)).toMatchObject({ why: { code: 'keyOff' } })
    expect(called('listxattr').screen(args, listing)).toMatchObject({ why: { code: 'keyOff' } })
    expect(called('removexattr').screen(args, listing)).toBeUndefined()
  })

  test('with it, the kernel still tells security.* itself, and lists get the names of the policy', () => {
    const both: Policy = { setxattr: { allowed: listing.setxattr!.allowed, read: true } }
    const get = (name: string) => ask('getxattr', [PATH, NAME, VALUE, 64n], callerWith(memory(`${name}\0`)), both)
    expect(get('security.NTACL')).toMatchObject({ why: { code: 'attributeOfAll' } })
    expect(get('trusted.glusterfs.a')).toMatchObject({ act: { verb: 'getxattr', at: VALUE, size: 64 } })
    expect(get('trusted.a')).toMatchObject({ why: { code: 'attributeNotListed' } })
    expect(ask('listxattr', [PATH, VALUE, 64n], callerWith(memory()), both)).toMatchObject({
      act: { verb: 'listxattr', allowed: both.setxattr!.allowed },
    })
  })
})

test('the sixteen calls each have a handler', () => {
  const names = xattrHandlers.map(({ name }) => name)
  expect(new Set(names).size).toBe(16)
})
