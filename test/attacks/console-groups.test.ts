// A container gets a node 5:1, the host's console, where its control groups cannot bar the opening, or only those of the caller
// do: it is made once the group of the whole container refuses (linux/kernel/bpf/cgroup.c __cgroup_bpf_check_dev_permission()).
import { spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { barOpening } from '../../src/abi/bpf.ts'
import { BPF } from '../../src/abi/bpf-attr.ts'
import { makedev } from '../../src/abi/dev.ts'
import { ALLOW, attr, Caller, DIRECTORY, Group, loading, Outsider, withoutCgroups } from '../support/bpf-world.ts'
import { fixture } from '../support/fixtures.ts'
import { BASE, Host, mknodPolicy, until } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const why = withoutCgroups()
const OVERRIDE = 1
const MULTI = 2
const REFUSED = '{"errno":"EPERM"}\n'
const HELD = '{"ok":true}\n5:1\nclosed\n'

let host: Host
let serial = 0
beforeAll(async () => {
  host = await Host.start({ ...mknodPolicy, bpf: { devices: true } })
})
afterAll(() => host.close())

const making = (path: string): string => `${fixture('caller')} mknod ${path} 020666 5 1`
/** Never more than open and close: it is the real one. */
const opening = (path: string): string => `(: <>${path}) 2>/dev/null && echo opens || echo closed`
const attack = (): string => {
  const path = join(host.directory, `console${serial++}`)
  return `${making(path)}; [ -e ${path} ] && stat -c %t:%T ${path} && { ${opening(path)}; }`
}
const lastReason = async (before: number): Promise<string | undefined> => {
  await host.settle(before)
  return host.records.at(-1)?.reason
}
/** What the attack says in a container, and the reason of the last call. */
async function run(options: readonly string[], script: string) {
  const before = host.records.length
  const { stdout } = await host.run(options, ['sh', '-c', script])
  return { stdout, reason: await lastReason(before) }
}

test('a console in the root of the hierarchies cannot be barred: the kernel refuses it, with a reason of its own', async () => {
  expect(await run([], attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
})

describe.skipIf(why)(withReason('the console in a cgroup of v2', why), () => {
  let home: Group
  let outsider: Outsider
  beforeEach(() => {
    home = new Group().delegate()
    outsider = new Outsider()
  })
  afterEach(async () => {
    await outsider.close()
    writeFileSync(`${home.path}/cgroup.kill`, '1')
    await home.remove()
  })
  const inHome = (script: string) => run(['--cgroup', home.path], script)
  const nested = (name: string): string => {
    const path = home.below(name)
    chownSync(`${path}/cgroup.procs`, BASE, BASE)
    return path
  }
  const entering = (group: string): string => `echo 0 >${group}/cgroup.procs`

  test('is made and does not open, by the caller or in a group below; one program bars it for good', async () => {
    const below = nested('below')
    const script = `${attack()}; ${attack()}; ${entering(below)}; ${attack()}`
    expect(await inHome(script)).toEqual({ stdout: HELD.repeat(3), reason: 'doneAndBarred' })
    expect(await inHome(attack())).toMatchObject({ stdout: HELD })
    expect(await outsider.attached(home.path)).toHaveLength(1)
    expect(await outsider.attached(below)).toHaveLength(0)
  })

  test('is barred by one program, also when threads ask at once', async () => {
    const calls = Array.from({ length: 8 }, () => making(join(host.directory, `console${serial++}`)))
    const { stdout } = await inHome(`${calls.map((call) => `${call} &`).join('\n')}\nwait`)
    expect(stdout).toBe('{"ok":true}\n'.repeat(8))
    expect(await outsider.attached(home.path)).toHaveLength(1)
  })

  test('leaves other devices to be made and opened as before', async () => {
    const path = join(host.directory, `null${serial++}`)
    const script = `${attack()}; ${fixture('caller')} mknod ${path} 020666 1 3; ${opening(path)}`
    expect((await inHome(script)).stdout).toBe(`${HELD}{"ok":true}\nopens\n`)
  })

  test('is not made for a container because the rules of a nested group bar it', async () => {
    const strict = nested('strict')
    await outsider.attach(strict, MULTI, Buffer.from(barOpening(makedev(5, 1))))
    const path = join(host.directory, `console${serial++}`)
    const script = `${entering(strict)}; ${making(path)}; ${entering(home.path)}; ${opening(path)}`
    expect((await inHome(script)).stdout).toBe('{"ok":true}\nclosed\n')
  })

  test('is refused where the program of the runtime bears no other', async () => {
    await outsider.attach(home.path, OVERRIDE, ALLOW)
    expect(await inHome(attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
  })

  test('is refused in a group with a process of the host, and the group is not touched', async () => {
    const shell = spawn('sh', ['-c', 'echo 0 >"$1/cgroup.procs"; sleep 1000 & wait', 'sh', home.path], {
      detached: true,
    })
    try {
      await until('it is there', () => readFileSync(`${home.path}/cgroup.procs`, 'latin1').split('\n').length > 2)
      expect(await inHome(attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
      expect(await outsider.attached(home.path)).toHaveLength(0)
    } finally {
      process.kill(-shell.pid!, 'SIGKILL')
    }
  })

  test('is refused in a group below the container’s, for that may have others beside it', async () => {
    const inner = nested('inner')
    expect(await run(['--cgroup', inner], attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
    expect(await outsider.attached(inner)).toHaveLength(0)
  })

  test('is refused there also where the rules of that group bar it, for the container may have made them', async () => {
    const inner = nested('inner')
    await outsider.attach(inner, MULTI, Buffer.from(barOpening(makedev(5, 1))))
    expect(await run(['--cgroup', inner], attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
  })

  test('stays barred: the container cannot take the program off, whatever it may do with its own', async () => {
    const [go, said] = [join(host.directory, `go${serial}`), join(host.directory, `said${serial++}`)]
    const path = join(host.directory, `console${serial++}`)
    const wait = (file: string): string => `until [ -e ${file} ]; do sleep 0.02; done`
    const beside = `${making(path)} >${said}; ${wait(go)}; ${opening(path)} >${said}.part; mv ${said}.part ${said}.end`
    const caller = Caller.contained(host, home.path, { within: ['sh', '-c', `(${beside}) & exec "$@"`, 'sh'] })
    try {
      await until('it is made', () => existsSync(said) && readFileSync(said, 'utf8') === '{"ok":true}\n')
      const [ours] = await outsider.attached(home.path)
      const group = await caller.number(`open ${home.path} ${DIRECTORY}`)
      const below = await caller.number(`open ${nested('below')} ${DIRECTORY}`)
      const program = Number((await caller.bpf(BPF.PROG_LOAD, loading())).result)
      const named = { 4: program, 8: 6 }
      expect((await caller.bpf(BPF.PROG_DETACH, attr(12, { 0: group, ...named }))).result).toBe('EPERM')
      expect((await caller.bpf(BPF.PROG_ATTACH, attr(20, { 0: group, ...named, 12: MULTI }))).result).toBe('EPERM')
      expect((await caller.bpf(BPF.PROG_GET_FD_BY_ID, attr(12, { 0: ours! }))).result).toBe('EPERM')
      for (const flags of [MULTI, 0, OVERRIDE]) {
        expect((await caller.bpf(BPF.PROG_ATTACH, attr(20, { 0: below, ...named, 12: flags }))).result).toBe(0)
        expect((await caller.bpf(BPF.PROG_DETACH, attr(12, { 0: below, ...named }))).result).toBe(0)
      }
      writeFileSync(go, '')
      await until('it has tried', () => existsSync(`${said}.end`))
      expect(readFileSync(`${said}.end`, 'utf8')).toBe('closed\n')
      expect(await outsider.attached(home.path)).toEqual([ours])
    } finally {
      await caller.close()
    }
  })
})

const CONTROLLER = '/sys/fs/cgroup/devices'
const noLegacy = existsSync(join(CONTROLLER, 'devices.list'))
  ? undefined
  : 'there is no devices controller of cgroup v1'

describe.skipIf(noLegacy)(withReason('the console in a cgroup of v1 alone', noLegacy), () => {
  let group: string
  beforeEach(() => {
    group = join(CONTROLLER, `intercede-console-${process.pid}-${serial++}`)
    mkdirSync(group)
  })
  afterEach(() => until('the group is empty', () => removed(group)))

  const inGroup = (script: string) => run(['--cgroup', group], script)

  test.each([
    { what: 'that allows everything', rules: [] },
    { what: 'that allows it among others', rules: ['a', 'c *:* m', 'c 1:* rwm', 'c 5:1 rwm'] },
  ])('is made and does not open in a group $what', async ({ rules }) => {
    setRules(rules)
    expect(await inGroup(`${attack()}; ${attack()}`)).toEqual({ stdout: HELD.repeat(2), reason: 'doneAndBarred' })
  })

  test('is refused in a group that allows all character devices by one rule, of which nothing can be taken', async () => {
    setRules(['a', 'c *:* rwm'])
    expect(await inGroup(attack())).toEqual({ stdout: REFUSED, reason: 'opensHost' })
  })

  function setRules([deny, ...allow]: readonly string[]): void {
    if (deny) writeFileSync(join(group, 'devices.deny'), deny)
    for (const rule of allow) writeFileSync(join(group, 'devices.allow'), rule)
  }
})

function removed(path: string): boolean {
  try {
    rmdirSync(path)
    return true
  } catch {
    return false
  }
}
