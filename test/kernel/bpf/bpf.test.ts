import { readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BPF } from '../../../src/abi/bpf.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import {
  ALLOW,
  type Attr,
  attr,
  Caller,
  DENY,
  DIRECTORY,
  describing,
  Group,
  idOf,
  loading,
  Outsider,
  probe,
  type Said,
  withoutCgroups,
} from '../../support/bpf-world.ts'
import { fixture, no32 } from '../../support/fixtures.ts'
import { BASE, devicePrograms, directory, execute, Host, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const why = withoutCgroups()
const OVERRIDE = 1
const MULTI = 2
const REPLACE = 4
const DEVICE = 6
/** That of serving threads: no user has it. */
const NOBODY = 2 ** 32 - 2

describe.skipIf(why)(withReason('device programs of a container', why), () => {
  let host: Host
  let outsider: Outsider
  /** The parent of the container's group, which is the host's. */
  let parent: Group
  let home: Group
  let caller: Caller
  beforeAll(async () => {
    host = await Host.start({ bpf: devicePrograms })
    outsider = new Outsider()
  })
  afterAll(async () => {
    await outsider.close()
    host.close()
  })
  beforeEach(() => {
    parent = new Group()
    home = new Group(`${parent.path}/b`).delegate()
    caller = Caller.contained(host, home.path)
  })
  afterEach(async () => {
    await caller.close()
    await parent.remove()
  })

  /** Another container, in a group of its own. */
  function second(containment: Parameters<typeof Caller.contained>[2]): { group: Group; other: Caller } {
    const group = new Group(`${parent.path}/c`).delegate()
    return { group, other: Caller.contained(host, group.path, containment) }
  }

  const load = async (by = caller, instructions: Uint8Array = ALLOW): Promise<number> =>
    Number((await by.bpf(BPF.PROG_LOAD, loading(instructions))).result)
  const open = (path: string, by = caller): Promise<number> => by.number(`open ${path} ${DIRECTORY}`)
  const attaching = (group: number, program: number, flags = MULTI, replace = 0) =>
    attr(20, { 0: group, 4: program, 8: DEVICE, 12: flags, 16: replace })
  const attach = async (...args: Parameters<typeof attaching>): Promise<Said> =>
    caller.bpf(BPF.PROG_ATTACH, attaching(...args))
  const detaching = (group: number, program: number) => attr(12, { 0: group, 4: program, 8: DEVICE })
  const detach = async (group: number, program: number): Promise<number | string> =>
    (await caller.bpf(BPF.PROG_DETACH, detaching(group, program))).result
  const numberOf = async (program: number): Promise<number> => {
    const { result, buffers } = await caller.bpf(BPF.OBJ_GET_INFO_BY_FD, describing(program))
    expect(result).toBe(0)
    return idOf(buffers[0]!)
  }

  const recordsAreThere = (): Promise<void> =>
    until('the records', () => {
      host.drain()
      return host.records.length === Caller.calls
    })

  /** What one call gives, and the reason on its record. */
  async function recorded(
    call: () => Promise<Said>,
  ): Promise<{ result: number | string; reason: ReasonCode | undefined }> {
    // Records of one caller may come in another order than its calls, from different threads.
    await recordsAreThere()
    const { result } = await call()
    await recordsAreThere()
    return { result, reason: host.records.at(-1)?.reason }
  }

  describe('below the group of its container', () => {
    test('a program rules there as long as it is attached', async () => {
      const [below, beside] = [home.below('ruled'), home.below('beside')]
      const [program, group] = [await load(caller, DENY), await open(below)]
      expect(await probe(below, '/dev/zero')).toBe('open')
      expect((await attach(group, program)).result).toBe(0)
      expect(await probe(below, '/dev/zero')).toBe('closed')
      expect(await probe(beside, '/dev/zero')).toBe('open')
      expect(await detach(group, program)).toBe(0)
      expect(await probe(below, '/dev/zero')).toBe('open')
    })

    test('a program outlives its descriptor, is listed, opened by its number, replaced and detached', async () => {
      const below = home.below('listed')
      const [program, group] = [await load(caller, DENY), await open(below)]
      await attach(group, program)
      const id = await numberOf(program)
      await caller.ask(`close ${program}`)
      await load()
      const { attr: after, buffers } = await caller.bpf(
        BPF.PROG_QUERY,
        attr(64, { 0: group, 4: DEVICE, 24: 4 }, ['16:+16', '32:+16']),
      )
      expect(Buffer.from(after, 'hex').readUInt32LE(12)).toBe(MULTI)
      expect(Buffer.from(after, 'hex').readUInt32LE(24)).toBe(1)
      expect(Buffer.from(buffers[0]!.padEnd(8, '0'), 'hex').readUInt32LE()).toBe(id)
      expect(await outsider.attached(below)).toEqual([id])
      const again = Number((await caller.bpf(BPF.PROG_GET_FD_BY_ID, attr(12, { 0: id }))).result)
      expect(await numberOf(again)).toBe(id)
      const other = await load()
      expect((await attach(group, other, MULTI | REPLACE, again)).result).toBe(0)
      expect(await outsider.attached(below)).toEqual([await numberOf(other)])
      expect(await detach(group, again)).toBe('ENOENT')
      expect(await detach(group, other)).toBe(0)
      expect(await outsider.attached(below)).toEqual([])
      expect(await detach(group, other)).toBe('ENOENT')
    })

    test('the descriptor is closed by execve, stands for the program only here, and cannot be attached without us', async () => {
      const below = home.below('natively')
      const program = await load()
      expect(await caller.ask(`cloexec ${program}`)).toBe('ok 1')
      expect(await caller.ask(`link ${program}`)).toMatch(/ pipe:/)
      const stranger = new Caller(fixture('bpf-calls'), [])
      try {
        const socket = `${host.directory}/stand-in`
        const [received] = await Promise.all([
          stranger.number(`receive ${socket}`),
          caller.ask(`send ${socket} ${program}`),
        ])
        const group = await open(below, stranger)
        expect((await stranger.bpf(BPF.PROG_ATTACH, attaching(group, received))).result).toBe('EINVAL')
      } finally {
        await stranger.close()
      }
    })

    test('a thread that has given one is who it was', async () => {
      await load()
      const tasks = `/proc/${host.enginePid}/task`
      const uids = readdirSync(tasks).map(
        (tid) => /^Uid:\t(.*)$/m.exec(readFileSync(`${tasks}/${tid}/status`, 'utf8'))?.[1],
      )
      // Real and saved are root's, the effective one is nobody's, and the one for files is root's.
      expect(new Set(uids)).toEqual(new Set(['0\t0\t0\t0', `0\t${NOBODY}\t0\t0`]))
    })

    test('a caller that knows more of a program than we do is told of it if the rest is zero, as natively', async () => {
      const SIZE = 512
      const asked = async (by: Caller, last: string): Promise<Said['result']> => {
        const program = await load(by)
        const zeros = '00'.repeat(SIZE - 1)
        const { result } = await by.bpf(
          BPF.OBJ_GET_INFO_BY_FD,
          attr(16, { 0: program, 4: SIZE }, [`8:${zeros}${last}`]),
        )
        return result
      }
      const native = Caller.native()
      try {
        for (const by of [native, caller])
          expect([await asked(by, '00'), await asked(by, '01')], by === native ? 'native' : 'ours').toEqual([
            0,
            'E2BIG',
          ])
      } finally {
        await native.close()
      }
    })

    test('a program is attached by a link, is exchanged there, and goes with the link’s descriptor', async () => {
      const below = home.below('linked')
      const [first, second, group] = [await load(caller, DENY), await load(), await open(below)]
      const link = Number((await caller.bpf(BPF.LINK_CREATE, attr(16, { 0: first, 4: group, 8: DEVICE }))).result)
      expect(await probe(below, '/dev/zero')).toBe('closed')
      expect(await caller.ask(`cloexec ${link}`)).toBe('ok 1')
      const update = attr(16, { 0: link, 4: second, 8: REPLACE, 12: first })
      expect((await caller.bpf(BPF.LINK_UPDATE, update)).result).toBe(0)
      expect(await probe(below, '/dev/zero')).toBe('open')
      expect((await caller.bpf(BPF.LINK_UPDATE, update)).result).toBe('EPERM')
      expect(await outsider.attached(below)).toEqual([await numberOf(second)])
      expect((await caller.bpf(BPF.LINK_DETACH, attr(4, { 0: link }))).result).toBe(0)
      expect(await outsider.attached(below)).toEqual([])
      const other = Number((await caller.bpf(BPF.LINK_CREATE, attr(16, { 0: first, 4: group, 8: DEVICE }))).result)
      expect(await outsider.attached(below)).toEqual([await numberOf(first)])
      await caller.ask(`close ${other}`)
      expect(await outsider.attached(below)).toEqual([])
    })

    test('a link whose group was removed, or that was detached, is updated and detached as natively', async () => {
      const native = Caller.native()
      /** What a link says once its attachment has ended, which the kernel notices a little after a group was removed. */
      async function seenAfter(
        by: Caller,
        path: string,
        end: (link: Attr) => Promise<unknown>,
      ): Promise<Said['result'][]> {
        const [first, second, group] = [await load(by, DENY), await load(by), await open(path, by)]
        const link = Number((await by.bpf(BPF.LINK_CREATE, attr(16, { 0: first, 4: group, 8: DEVICE }))).result)
        const update = async (words = {}): Promise<Said['result']> =>
          (await by.bpf(BPF.LINK_UPDATE, attr(16, { 0: link, 4: second, ...words }))).result
        await end(attr(4, { 0: link }))
        let said: Said['result'] = 0
        while (said === 0) said = await update()
        const exact = await update({ 8: REPLACE, 12: first })
        return [said, exact, (await by.bpf(BPF.LINK_DETACH, attr(4, { 0: link }))).result]
      }
      try {
        for (const by of [native, caller]) {
          const path = home.below(`removed-${by.pid}`)
          expect(await seenAfter(by, path, async () => rmdirSync(path))).toEqual(['ENOLINK', 'ENOLINK', 0])
          const other = home.below(`detached-${by.pid}`)
          const gone = (link: Attr): Promise<Said> => by.bpf(BPF.LINK_DETACH, link)
          expect(await seenAfter(by, other, gone)).toEqual(['ENOLINK', 'ENOLINK', 0])
        }
      } finally {
        await native.close()
      }
    })

    test('a program is loaded and attached by a thread whose table of descriptors is its own', async () => {
      const below = home.below('thread')
      const [program, group] = [await load(), await open(below)]
      expect(group).toBeLessThan(10)
      expect((await caller.bpf(BPF.PROG_ATTACH, attaching(group, program), 'private ')).result).toBe(0)
      expect(await outsider.attached(below)).toEqual([await numberOf(program)])
      expect((await caller.bpf(BPF.PROG_ATTACH, attaching(20, program), 'private ')).result).toBe('EBADF')
      const link = await caller.bpf(BPF.LINK_CREATE, attr(16, { 0: program, 4: group, 8: DEVICE }), 'private ')
      expect(link.result).toBeTypeOf('number')
    })

    test.skipIf(no32)(withReason('a program is loaded and attached by i386 code', no32), async () => {
      const { group: its, other } = second({ flags: ['-m32'] })
      const below = its.below('i386')
      try {
        const [program, group] = [await load(other, DENY), await open(below, other)]
        expect((await other.bpf(BPF.PROG_ATTACH, attaching(group, program))).result).toBe(0)
        expect(await probe(below, '/dev/zero')).toBe('closed')
      } finally {
        await other.close()
      }
    })

    test('a group is known by a private mount of the hierarchy in a cgroup namespace, and by a bind mount', async () => {
      // A directory of its own: a mount on one of the host might hide the checkout, and so the program.
      const bound = directory(`${host.directory}/bound`, BASE, 0o755)
      const script = `mount -t cgroup2 none /mnt && mkdir /mnt/mounted && mount --bind /mnt/mounted ${bound} && exec ${fixture('bpf-calls')}`
      const { group: its, other } = second({ within: ['unshare', '--mount', '--cgroup', 'sh', '-c', script] })
      const below = `${its.path}/mounted`
      try {
        for (const path of ['/mnt/mounted', bound]) {
          const program = await load(other)
          const group = await open(path, other)
          const attached = await recorded(() => other.bpf(BPF.PROG_ATTACH, attaching(group, program)))
          expect(attached).toEqual({ result: 0, reason: 'done' })
        }
        expect(await outsider.attached(below)).toHaveLength(2)
      } finally {
        await other.close()
      }
    })
  })

  test('what is wrong with a call has the errno of the kernel', async () => {
    const native = Caller.native()
    try {
      for (const by of [native, caller]) {
        const [first, second] = [await load(by), await load(by)]
        const group = await open(home.below(`wrong-${by.pid}`), by)
        const { result: link } = await by.bpf(BPF.LINK_CREATE, attr(16, { 0: first, 4: group, 8: DEVICE }))
        const update = attr(16, { 0: Number(link), 4: second, 12: first })
        expect((await by.bpf(BPF.LINK_UPDATE, update)).result).toBe('EINVAL')
        expect((await by.bpf(BPF.PROG_DETACH, detaching(group, 63))).result).toBe('EINVAL')
        expect((await by.bpf(BPF.PROG_DETACH, detaching(group, second))).result).toBe('ENOENT')
        expect((await by.bpf(BPF.PROG_QUERY, attr(32, { 0: group, 4: DEVICE, 8: 2 }))).result).toBe('EINVAL')
      }
    } finally {
      await native.close()
    }
  })

  describe('what is refused, with its reason on record', () => {
    const attachAt = async (path: string): Promise<{ result: number | string; reason: ReasonCode | undefined }> => {
      const [program, group] = [await load(), await open(path)]
      return recorded(() => attach(group, program))
    }

    test('its own group, all above and beside, however they are named', async () => {
      home.below('child')
      const beside = new Group(`${parent.path}/bc`)
      expect(await attachAt(home.path)).toEqual({ result: 'EPERM', reason: 'ownCgroup' })
      expect(await attachAt(`${home.path}/child/..`)).toEqual({ result: 'EPERM', reason: 'ownCgroup' })
      expect(await attachAt(parent.path)).toEqual({ result: 'EPERM', reason: 'outsideCgroup' })
      expect(await attachAt(beside.path)).toEqual({ result: 'EPERM', reason: 'outsideCgroup' })
      expect(await attachAt(`${parent.path}/..`)).toEqual({ result: 'EPERM', reason: 'outsideCgroup' })
      expect(await outsider.attached(beside.path)).toEqual([])
    })

    test('a group outside, by a descriptor that came over a socket', async () => {
      const { fd } = await outsider.attach(parent.path, MULTI, DENY)
      const socket = `${host.directory}/group`
      const [group] = await Promise.all([caller.number(`receive ${socket}`), outsider.send(socket, fd)])
      const program = await load()
      expect(await recorded(() => attach(group, program))).toEqual({ result: 'EPERM', reason: 'outsideCgroup' })
      expect(await probe(home.path, '/dev/zero')).toBe('closed')
    })

    test('a group outside, bound to where a group of its own was', async () => {
      const script = `mkdir ${parent.path}/c/mounted && mount --bind ${home.path} ${parent.path}/c/mounted && exec ${fixture('bpf-calls')}`
      const { group: its, other } = second({ within: ['unshare', '--mount', 'sh', '-c', script] })
      try {
        const [program, group] = [await load(other), await open(`${its.path}/mounted`, other)]
        const attached = await recorded(() => other.bpf(BPF.PROG_ATTACH, attaching(group, program)))
        expect(attached).toEqual({ result: 'EPERM', reason: 'outsideCgroup' })
      } finally {
        await other.close()
      }
    })

    test("the runtime's program: by its number, by replacing it, by detaching whatever is there", async () => {
      const below = home.below('theirs')
      const { id: above } = await outsider.attach(home.path, MULTI, DENY)
      const { id, program: real } = await outsider.attach(below, MULTI, DENY)
      const socket = `${host.directory}/program`
      const [received] = await Promise.all([caller.number(`receive ${socket}`), outsider.send(socket, real)])
      const [own, group, ownGroup] = [await load(), await open(below), await open(home.path)]
      const byId = (number: number) => recorded(() => caller.bpf(BPF.PROG_GET_FD_BY_ID, attr(4, { 0: number })))
      for (const number of [id, above, 0xffff_ffff])
        expect(await byId(number)).toEqual({ result: 'EPERM', reason: 'notOurs' })
      const refused = { result: 'EPERM', reason: 'notOurs' }
      expect(await recorded(() => attach(group, own, MULTI | REPLACE, received))).toEqual(refused)
      expect(await recorded(() => attach(group, received))).toEqual(refused)
      expect(await recorded(() => caller.bpf(BPF.PROG_DETACH, detaching(group, received)))).toEqual(refused)
      expect(await recorded(() => caller.bpf(BPF.PROG_DETACH, detaching(group, 0)))).toEqual(refused)
      expect(await recorded(() => caller.bpf(BPF.PROG_DETACH, detaching(ownGroup, 0)))).toEqual({
        result: 'EPERM',
        reason: 'ownCgroup',
      })
      const query = await caller.bpf(BPF.PROG_QUERY, attr(32, { 0: group, 4: DEVICE, 24: 4 }, ['16:+16']))
      expect(query.buffers).toEqual(['-'])
      expect(Buffer.from(query.attr, 'hex').readUInt32LE(24)).toBe(0)
      expect(await outsider.attached(below)).toEqual([id])
      expect(await outsider.attached(home.path)).toEqual([above])
      expect(await probe(below, '/dev/zero')).toBe('closed')
    })

    test.each([
      { flags: OVERRIDE, reason: 'loosens' },
      { flags: 0, reason: 'loosens' },
    ])('below a group whose program was attached with flags $flags', async ({ flags, reason }) => {
      const below = home.below('loose')
      await outsider.attach(parent.path, flags, DENY)
      expect(await attachAt(below)).toEqual({ result: 'EPERM', reason })
      const [program, group] = [await load(), await open(below)]
      const link = () => caller.bpf(BPF.LINK_CREATE, attr(16, { 0: program, 4: group, 8: DEVICE }))
      expect(await recorded(link)).toEqual({ result: 'EPERM', reason })
      expect(await probe(below, '/dev/zero')).toBe('closed')
    })

    test.each([OVERRIDE, 0])('with flags %i it takes only the place of its own', async (flags) => {
      const [theirs, own] = [home.below('theirs'), home.below('own')]
      await outsider.attach(theirs, flags, DENY)
      const [program, other] = [await load(), await load()]
      const [group, ownGroup] = [await open(theirs), await open(own)]
      expect(await recorded(() => attach(group, program, flags))).toEqual({ result: 'EPERM', reason: 'notOurs' })
      expect(await recorded(() => caller.bpf(BPF.PROG_DETACH, detaching(group, program)))).toEqual({
        result: 'EPERM',
        reason: 'notOurs',
      })
      expect(await probe(theirs, '/dev/zero')).toBe('closed')
      expect((await attach(ownGroup, program, flags)).result).toBe(0)
      expect((await attach(ownGroup, other, flags)).result).toBe(0)
      expect(await outsider.attached(own)).toEqual([await numberOf(other)])
      expect((await attach(await open(home.below('own/deeper')), program)).result).toBe('EPERM')
      expect(await detach(ownGroup, 0)).toBe(0)
      expect(await outsider.attached(own)).toEqual([])
    })

    test('descriptors of nothing, of something else, and flags and members that are not served', async () => {
      const [program, group] = [await load(), await open(home.below('odd'))]
      const device = await caller.number('open /dev/null 0')
      expect(await recorded(() => attach(63, program))).toEqual({ result: 'EBADF', reason: 'notOpen' })
      expect(await recorded(() => attach(0xffff_ffff, program))).toEqual({ result: 'EBADF', reason: 'notOpen' })
      expect(await recorded(() => attach(device, program))).toEqual({ result: 'EBADF', reason: 'notCgroup' })
      expect(await recorded(() => attach(group, 63))).toEqual({ result: 'EBADF', reason: 'notOpen' })
      const removed = await open(home.below('removed'))
      rmdirSync(`${home.path}/removed`)
      const gone = { result: 'ENOENT', reason: 'removedCgroup' }
      expect(await recorded(() => attach(removed, program))).toEqual(gone)
      expect(await recorded(() => caller.bpf(BPF.PROG_QUERY, attr(32, { 0: removed, 4: DEVICE })))).toEqual(gone)
      // Its standard input is a pipe that stands for nothing.
      expect(await recorded(() => attach(group, 1))).toEqual({ result: 'EPERM', reason: 'notOurs' })
      for (const flags of [8, 16, 32, 64, 1 << 13]) {
        expect(await recorded(() => attach(group, program, flags | MULTI))).toEqual({
          result: 'EINVAL',
          reason: 'bpfFlags',
        })
      }
      const relative = attr(32, { 0: group, 4: program, 8: DEVICE, 12: MULTI, 20: 5 })
      expect(await recorded(() => caller.bpf(BPF.PROG_ATTACH, relative))).toEqual({
        result: 'EINVAL',
        reason: 'bpfMember',
      })
      const effective = attr(32, { 0: group, 4: DEVICE, 8: 1 })
      expect(await recorded(() => caller.bpf(BPF.PROG_QUERY, effective))).toEqual({
        result: 'EPERM',
        reason: 'bpfFlags',
      })
      expect(await outsider.attached(`${home.path}/odd`)).toEqual([])
    })

    test('other commands, types and attach types are left to the kernel', async () => {
      const [program, group] = [await load(), await open(home.below('other'))]
      const ingress = attr(20, { 0: group, 4: program, 8: 0, 12: MULTI })
      expect(await recorded(() => caller.bpf(BPF.PROG_ATTACH, ingress))).toEqual({
        result: 'EINVAL',
        reason: 'bpfAttachType',
      })
      const socket = loading(ALLOW, { words: { 0: 1 } })
      expect(await recorded(() => caller.bpf(BPF.PROG_LOAD, socket))).toMatchObject({ reason: 'bpfProgramType' })
      expect(await recorded(() => caller.bpf(0, attr(72, {})))).toMatchObject({ reason: 'bpfMap' })
    })
  })

  describe('who may load them', () => {
    const loadedBy = async (containment: Parameters<typeof Caller.contained>[2], group?: string) => {
      const other = group ? Caller.contained(host, group, containment) : second(containment).other
      try {
        return await recorded(() => other.bpf(BPF.PROG_LOAD, loading()))
      } finally {
        await other.close()
      }
    }

    test.each<{ who: string; options?: readonly string[]; within?: readonly string[]; reason: ReasonCode }>([
      { who: 'a user', options: ['--uid', '1000', '--gid', '1000'], reason: 'lacksCapability' },
      {
        who: 'root of a child user namespace',
        within: ['unshare', '--user', '--map-root-user'],
        reason: 'childUserns',
      },
      {
        who: 'root without the one',
        within: ['setpriv', '--bounding-set', '-sys_admin,-bpf'],
        reason: 'lacksCapability',
      },
      { who: 'root with both', within: ['setpriv', '--bounding-set', '-all,+bpf,+net_admin'], reason: 'done' },
      { who: 'root with the old one', within: ['setpriv', '--bounding-set', '-all,+sys_admin'], reason: 'done' },
    ])('$who: $reason', async ({ options = [], within = [], reason }) => {
      const { result, reason: said } = await loadedBy({ options, within })
      expect(said).toBe(reason)
      if (reason === 'done') expect(result).toBeTypeOf('number')
      else expect(result).toBe('EPERM')
    })

    test('nobody in the root cgroup', async () => {
      const root = parent.path.slice(0, parent.path.lastIndexOf('/'))
      expect(await loadedBy({}, root)).toEqual({ result: 'EPERM', reason: 'rootCgroup' })
    })

    test('nobody in a group with processes of others', async () => {
      const stranger = Caller.native()
      try {
        await execute('sh', ['-c', `echo ${stranger.pid} >${home.path}/cgroup.procs`])
        expect(await recorded(() => caller.bpf(BPF.PROG_LOAD, loading()))).toEqual({
          result: 'EPERM',
          reason: 'sharedCgroup',
        })
      } finally {
        await stranger.close()
      }
      expect(await load()).toBeTypeOf('number')
    })
  })
})
