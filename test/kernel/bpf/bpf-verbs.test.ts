import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, BPF_F_REPLACE } from '../../../src/abi/bpf.ts'
import { errno } from '../../../src/abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../../../src/abi/fcntl.ts'
import { WAS_NOT } from '../../../src/calls/act.ts'
import type { DevicePrograms, OwnProgram } from '../../../src/calls/device-programs.ts'
import {
  attachProgram as attach,
  attachedPrograms,
  createLink,
  loadProgram,
  objectInfo,
} from '../../../src/kernel/bpf.ts'
import { SyscallError } from '../../../src/kernel/error.ts'
import { dup, type Fd } from '../../../src/kernel/fd.ts'
import { openat } from '../../../src/kernel/files.ts'
import { cstring } from '../../../src/kernel/libc.ts'
import { attachProgram, detachProgram, linkProgram, updateLink } from '../../../src/verbs/bpf.ts'
import { ALLOW, DENY, Group, loading, withoutCgroups } from '../../support/bpf-world.ts'
import { standIn } from '../../support/caller-stand-in.ts'
import { withReason } from '../../support/skipped.ts'

const why = withoutCgroups()

describe.skipIf(why)(withReason('what the host or another engine changes during an act', why), () => {
  let place: Group
  let group: Fd
  const kept = new Map<number, Fd>()
  beforeEach(() => {
    place = new Group()
    group = openat(AT_FDCWD, cstring(place.path), O_PATH | O_DIRECTORY)
  })
  afterEach(async () => {
    group[Symbol.dispose]()
    for (const fd of kept.values()) fd[Symbol.dispose]()
    kept.clear()
    await place.remove()
  })

  function load(instructions: Uint8Array): OwnProgram {
    const licence = Buffer.from('GPL')
    const { fd } = loadProgram({ attr: loading(instructions).bytes, instructions, licence, log: undefined })
    const id = new DataView(objectInfo(fd!).buffer).getUint32(4, true)
    kept.set(id, fd!)
    return { id, loaded: 0n }
  }
  /** @param loose a group above turns loose. That cannot be timed: the look after the act is the one that finds it */
  const caller = (loose: boolean) =>
    standIn({
      note: () => {},
      devicePrograms: {
        loosens: () => loose,
        attached: attachedPrograms,
        numbered: (id: number) => ({ id, loaded: 0n }),
        open: ({ id }: OwnProgram) => dup(kept.get(id)!),
      } as unknown as DevicePrograms,
    })
  /** A look fails, usually the one at the groups above: whether the program may stay cannot be told. */
  const blind = (look: 'loosens' | 'countLink' = 'loosens') => {
    const { devicePrograms } = caller(false)
    const fails = (): never => {
      throw new SyscallError('bpf', errno('ENOMEM'))
    }
    return standIn({
      note: () => {},
      devicePrograms: { ...devicePrograms, [look]: fails } as unknown as DevicePrograms,
    })
  }
  const ids = (): readonly number[] => attachedPrograms(group).ids
  const refusal = { value: 0n, errno: 1, why: { code: 'loosens' } }

  test('the program that was attached is detached again', () => {
    const program = load(DENY)
    const act = { group, above: [], program, flags: BPF_F_ALLOW_MULTI }
    expect(attachProgram.run(act, caller(false))).toEqual({ value: 0n })
    expect(ids()).toEqual([program.id])
    const other = load(ALLOW)
    expect(attachProgram.run({ ...act, program: other }, caller(true))).toEqual(refusal)
    expect(ids()).toEqual([program.id])
  })

  test('the program that was replaced is back', () => {
    const [program, other] = [load(DENY), load(ALLOW)]
    attach(group, kept.get(program.id)!, BPF_F_ALLOW_MULTI)
    const act = { group, above: [], program: other, flags: BPF_F_ALLOW_MULTI | BPF_F_REPLACE, replace: program }
    expect(attachProgram.run(act, caller(true))).toEqual(refusal)
    expect(ids()).toEqual([program.id])
  })

  test('the only program, of which another has taken the place, is back if that is known', () => {
    const [program, other] = [load(DENY), load(ALLOW)]
    attach(group, kept.get(program.id)!, BPF_F_ALLOW_OVERRIDE)
    const act = { group, above: [], program: other, flags: BPF_F_ALLOW_OVERRIDE }
    expect(attachProgram.run(act, caller(true))).toEqual(refusal)
    expect(ids()).toEqual([program.id])
    expect(attachProgram.run(act, caller(false))).toEqual({ value: 0n })
    expect(attachProgram.recover!(act, caller(true), { since: 0, note: WAS_NOT })).toEqual(refusal)
    expect(ids()).toEqual([])
  })

  test('the only program of another is not detached', () => {
    const [theirs, own] = [load(DENY), load(ALLOW)]
    attach(group, kept.get(theirs.id)!, BPF_F_ALLOW_OVERRIDE)
    expect(() => detachProgram.run({ group, program: own }, caller(false))).toThrow('ENOENT')
    expect(ids()).toEqual([theirs.id])
  })

  test('an exchange by an engine that ended before it answered is known by its result', () => {
    const [first, second] = [load(DENY), load(ALLOW)]
    using link = createLink(group, kept.get(first.id)!)
    const { devicePrograms } = caller(false)
    let note = 0n
    const by = standIn({
      note: (noted) => {
        note = noted
      },
      devicePrograms: { ...devicePrograms, openLink: () => dup(link) } as unknown as DevicePrograms,
    })
    const act = { link: { id: 1, group: 1n }, program: second, flags: BPF_F_REPLACE, old: first }
    expect(updateLink.recover!(act, by, { since: 0, note: WAS_NOT })).toBeUndefined()
    expect(updateLink.run(act, by)).toEqual({ value: 0n })
    expect(updateLink.recover!(act, by, { since: 0, note })).toEqual({ value: 0n })
    expect(ids()).toEqual([second.id])
    // That the link has the program already is not the result of this call.
    expect(() => updateLink.run(act, by)).toThrow('EPERM')
    expect(updateLink.recover!(act, by, { since: 0, note })).toBeUndefined()
  })

  test('a link is not handed out, and ends', () => {
    const program = load(DENY)
    expect(linkProgram.run({ group, above: [], program }, caller(true))).toEqual(refusal)
    expect(ids()).toEqual([])
  })

  test('a call that fails since the groups above cannot be looked at leaves nothing attached', () => {
    const [program, other] = [load(DENY), load(ALLOW)]
    attach(group, kept.get(program.id)!, BPF_F_ALLOW_MULTI)
    const replacing = { flags: BPF_F_ALLOW_MULTI | BPF_F_REPLACE, replace: program }
    expect(() => attachProgram.run({ group, above: [], program: other, flags: BPF_F_ALLOW_MULTI }, blind())).toThrow(
      'ENOMEM',
    )
    expect(() => attachProgram.run({ group, above: [], program: other, ...replacing }, blind())).toThrow('ENOMEM')
    expect(() => linkProgram.run({ group, above: [], program: other }, blind())).toThrow('ENOMEM')
    expect(() => linkProgram.run({ group, above: [], program: other }, blind('countLink'))).toThrow('ENOMEM')
    expect(ids()).toEqual([program.id])
  })
})
