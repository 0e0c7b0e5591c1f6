// A container moves between groups of its own with different device rules, to get by the stricter ones, or to have calls elsewhere
// refused by them: each call is ruled by the groups of who makes it (linux/security/device_cgroup.c devcgroup_inode_mknod()).
import { chownSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BPF } from '../../src/abi/bpf.ts'
import { makedev } from '../../src/abi/stat.ts'
import { attr, Caller, DENY, DIRECTORY, Group, loading, Outsider, withoutCgroups } from '../support/bpf-world.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE, devicePrograms, Host, until } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const why = withoutCgroups()
const MULTI = 2
const DEVICE = 6

describe.skipIf(why)(withReason('device rules of nested groups', why), () => {
  let host: Host
  let home: Group
  let serial = 0
  beforeAll(async () => {
    host = await Host.start({ mknod: { devices: new Set([makedev(1, 3)]) }, bpf: devicePrograms })
  })
  afterAll(() => host.close())
  beforeEach(() => {
    home = new Group().delegate()
  })
  afterEach(async () => {
    writeFileSync(`${home.path}/cgroup.kill`, '1')
    await home.remove()
  })

  /** One below the container's, to which its root may move. */
  const nested = (name: string): string => {
    const path = home.below(name)
    chownSync(`${path}/cgroup.procs`, BASE, BASE)
    return path
  }
  const making = (): string => `${fixture('caller')} mknod ${join(host.directory, `n${serial++}`)} 020666 1 3`
  const entering = (group: string): string => `echo 0 >${group}/cgroup.procs`
  const run = async (...lines: readonly string[]): Promise<readonly string[]> =>
    (await host.run(['--cgroup', home.path], ['sh', '-c', lines.join('\n')])).stdout.trim().split('\n')

  describe('that the host has made stricter', () => {
    let outsider: Outsider
    let strict: string
    beforeEach(async () => {
      outsider = new Outsider()
      strict = nested('strict')
      await outsider.attach(strict, MULTI, DENY)
    })
    afterEach(() => outsider.close())

    test('a device that others of the container may make is not made there', async () => {
      expect(await run(making(), entering(strict), making())).toEqual(['{"ok":true}', '{"errno":"EPERM"}'])
    })

    test('a device that is refused there is made for others of the container', async () => {
      const lines = [entering(strict), making(), entering(home.path), making()]
      expect(await run(...lines)).toEqual(['{"errno":"EPERM"}', '{"ok":true}'])
    })
  })

  test('a group that the container itself has made stricter is so', async () => {
    const strict = nested('strict')
    const [go, said] = [join(host.directory, 'go'), join(host.directory, 'said')]
    const beside = `until [ -e ${go} ]; do sleep 0.02; done; { ${making()}; ${entering(strict)}; ${making()}; } >${said}.part; mv ${said}.part ${said}`
    const caller = Caller.contained(host, home.path, { within: ['sh', '-c', `(${beside}) & exec "$@"`, 'sh'] })
    try {
      const { result: program } = await caller.bpf(BPF.PROG_LOAD, loading(DENY))
      const group = await caller.number(`open ${strict} ${DIRECTORY}`)
      const attaching = attr(20, { 0: group, 4: Number(program), 8: DEVICE, 12: MULTI })
      expect((await caller.bpf(BPF.PROG_ATTACH, attaching)).result).toBe(0)
      writeFileSync(go, '')
      await until('it has tried', () => existsSync(said))
      expect(readFileSync(said, 'utf8')).toBe('{"ok":true}\n{"errno":"EPERM"}\n')
    } finally {
      await caller.close()
    }
  })

  /** More than there are places: see `SharedState.rulesPace`. */
  test('of 128 groups each gets its answer, also when they take turns', async () => {
    const groups = Array.from({ length: 128 }, (_, index) => nested(`g${index}`))
    const turns = groups.flatMap((group) => [entering(group), making()])
    const started = performance.now()
    const said = await run(...turns)
    console.log(`128 groups, one call each: ${Math.round(performance.now() - started)} ms`)
    expect(said).toEqual(groups.map(() => '{"ok":true}'))
  })
})
