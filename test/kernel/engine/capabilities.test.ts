import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BPF } from '../../../src/abi/bpf.ts'
import type { Cap } from '../../../src/abi/credentials.ts'
import { RLIMIT } from '../../../src/abi/rlimit.ts'
import type { Verbs } from '../../../src/calls/act.ts'
import { type Step, steps } from '../../../src/calls/steps.ts'
import type { KernelFeature } from '../../../src/kernel/probe.ts'
import { attr, Caller, DIRECTORY, describing, Group, idOf, loading, withoutCgroups } from '../../support/bpf-world.ts'
import { MAIN, maskIn, maskOf, named, row, type Sample, Sampler, undeclared } from '../../support/capability-samples.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { BASE, devicePrograms, Host, mknodPolicy, USERNS, until } from '../../support/host.ts'
import { Images } from '../../support/images.ts'
import { PatchedBuild } from '../../support/patched-build.ts'
import { cannotRaiseLimits, lacks, untraced, withReason } from '../../support/skipped.ts'

const policy = {
  ...mknodPolicy,
  bpf: { ...devicePrograms, delegateCmds: new Set(['prog_load']) },
  mount: { allowed: new Set(['ext4', 'tmpfs']), fuse: new Map(), shift: false, nodev: true },
  rlimits: { allowed: new Map([[RLIMIT.NOFILE, 4096n]]) },
  schedSetscheduler: { maxPriority: 20, minNice: 0, ioprio: false },
  setxattr: { allowed: new Set<string>(), read: true },
  sysinfo: {},
} as const

const absent = untraced ?? missing('gcc', 'losetup', 'mkfs.ext4', 'chrt') ?? withoutCgroups()
const caller = (...call: readonly string[]): string => [fixture('caller'), ...call].join(' ')
const OK = '{"ok":true}\n'
const tmpfs = 'export LIBMOUNT_FORCE_MOUNT2=always; mount -t tmpfs none /mnt'

/** A call of an act, the step in which it is made, and what of the caller's own is added. */
type Seen = readonly [call: string, step: Step, own?: readonly Cap[]]

interface Scene {
  readonly does: () => Promise<void>
  readonly sees: readonly Seen[]
  readonly needs?: KernelFeature
  /** Why it cannot be done here, if it is for another reason. */
  readonly cannot?: string | undefined
}

describe.skipIf(absent)(withReason('the capabilities in effect during each act', absent), () => {
  let host: Host
  let sampler: Sampler
  let images: Images
  let device: string
  let programs: Programs
  let mounting: Steps
  let picking: Steps
  let tokens: Steps

  beforeAll(async () => {
    images = new Images()
    host = await Host.start(policy)
    device = join(host.directory, 'device')
    const loop = images.device('ext4')
    execFileSync('mknod', ['-m', '600', device, 'b', '7', loop.replace(/\D/g, '')])
    chownSync(device, BASE, BASE)
    sampler = await Sampler.attach(host.enginePid)
    programs = new Programs()
    const calls = 'fsopen source ro create create-again fsmount fsmount-again mount_setattr move_mount'
    mounting = new Steps(calls, fixture('mount-steps'), 'ext4', device, '/mnt')
    tokens = new Steps('fsopen option bpffs', fixture('token-steps'))
    picking = new Steps('mount fspick size reconfigure', fixture('pick-steps'), '/mnt')
  })
  afterAll(async () => {
    await mounting?.close()
    await picking?.close()
    await tokens?.close()
    await programs?.close()
    await sampler?.end()
    host?.close()
    images?.[Symbol.dispose]()
  })

  async function says(options: readonly string[], script: string, said: string): Promise<void> {
    const { stdout, stderr } = await host.run(options, ['unshare', '--mount', 'sh', '-c', script])
    expect([stdout, stderr]).toEqual([said, ''])
  }

  function file(): string {
    const path = join(host.directory, 'file')
    writeFileSync(path, '')
    chownSync(path, BASE, BASE)
    return path
  }

  /** A fixture that makes a call for each line. */
  class Steps {
    readonly #child
    readonly #names: readonly string[]
    #at = 0

    constructor(names: string, ...program: readonly string[]) {
      this.#names = names.split(' ')
      const container = [host.socket, '--userns', USERNS, '--await-agent', '--mounts', '--', 'unshare', '--mount']
      const command = [...container, ...program]
      this.#child = spawn(fixture('filtered'), command, { stdio: ['pipe', 'pipe', 'inherit'] })
    }

    /** Makes all calls up to this one, and lets go what was seen at those before it. */
    async to(name: string): Promise<void> {
      for (; this.#names[this.#at] !== name; this.#at++) await this.#next()
      await sampler.take()
      this.#at++
      expect(await this.#next()).toBe(`${name}: ok\n`)
    }

    async #next(): Promise<string> {
      const said = once(this.#child.stdout, 'data')
      this.#child.stdin.write('\n')
      return `${(await said)[0]}`
    }

    async close(): Promise<void> {
      this.#child.kill('SIGKILL')
      if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
    }
  }

  /** A container that loads and attaches device programs. */
  class Programs {
    readonly home = new Group().delegate()
    readonly caller = Caller.contained(host, this.home.path)

    async load(): Promise<number> {
      return Number((await this.caller.bpf(BPF.PROG_LOAD, loading())).result)
    }

    async prepared(): Promise<{ program: number; group: number }> {
      const below = this.home.below(`g${Caller.calls}`)
      const [program, group] = [await this.load(), await this.caller.number(`open ${below} ${DIRECTORY}`)]
      return { program, group }
    }

    /** Makes a call and lets go what was seen before it. */
    async call(command: number, ...args: Parameters<typeof attr>): Promise<number> {
      await sampler.take()
      const { result } = await this.caller.bpf(command, attr(...args))
      expect(result).toBeTypeOf('number')
      return Number(result)
    }

    attached = async (): Promise<{ program: number; group: number }> => {
      const both = await this.prepared()
      await this.call(BPF.PROG_ATTACH, 20, { 0: both.group, 4: both.program, 8: DEVICE, 12: MULTI })
      return both
    }

    linked = async (): Promise<{ program: number; link: number }> => {
      const { program, group } = await this.prepared()
      const link = await this.call(BPF.LINK_CREATE, 16, { 0: program, 4: group, 8: DEVICE })
      return { program, link }
    }

    async close(): Promise<void> {
      await this.caller.close()
      await this.home.remove()
    }
  }
  const DEVICE = 6
  const MULTI = 2
  const REPLACE = 4

  const attribute = async (...call: readonly string[]): Promise<void> => {
    const { stdout } = await host.run(['--xattr'], [fixture('caller'), ...call])
    expect(stdout).toMatch(/^\{"ok":true/)
  }
  const OPAQUE = 'trusted.overlay.opaque'
  const asked = (name: string): Scene => ({
    does: () => mounting.to(name),
    sees: [['sendmsg', steps.askMounter]],
  })

  const scenes: { readonly [V in keyof Omit<Verbs, 'fuse'>]: Scene } = {
    mknod: {
      async does() {
        const theirs = join(host.directory, 'theirs')
        mkdirSync(theirs, { mode: 0o755 })
        chownSync(theirs, BASE + 1000, BASE + 1000)
        for (const [path, mode] of [
          [join(host.directory, 'null'), '020666'],
          [join(theirs, 'null'), '020666'],
          [join(host.directory, 'sgid'), '022676'],
        ] as const)
          expect((await host.call(['mknod', path, mode, '1', '3'])).result).toBe('ok')
      },
      sees: [
        ['mknodat', steps.makeNode],
        ['mknodat', steps.makeNode, ['DAC_OVERRIDE']],
        ['mknodat', steps.makeNode, ['FSETID']],
      ],
    },
    placeNode: {
      does: () => says([], `mount -t ramfs none /mnt && ${caller('mknod', '/mnt/n', '020666', '1', '3')}`, OK),
      sees: [
        ['mknodat', steps.asHostRoot],
        ['mknodat', steps.makeNode],
        ['mknodat', steps.makeOwnNode],
        ['fchownat', steps.makeOwnNode],
        ['fsopen', steps.makeMount],
        ['open_tree', steps.makeMount],
      ],
      needs: 'copyDetached',
    },
    report: {
      does: () => host.run(['--all-sysinfo'], [fixture('sysinfo')]).then(({ stdout }) => expect(stdout).toMatch(/^\{/)),
      sees: [['openat', steps.reach]],
    },
    setxattr: {
      does: () => attribute('setxattr', file(), OPAQUE, 'y'),
      sees: [['setxattr', steps.attribute]],
    },
    getxattr: {
      does: () => attribute('getxattr', join(host.directory, 'file'), OPAQUE),
      sees: [['getxattr', steps.attribute]],
    },
    listxattr: {
      does: () => attribute('listxattr', join(host.directory, 'file')),
      sees: [
        ['listxattr', steps.attribute],
        ['listxattr', steps.asCaller],
      ],
    },
    removexattr: {
      does: () => attribute('removexattr', join(host.directory, 'file'), OPAQUE),
      sees: [['removexattr', steps.attribute]],
    },
    schedule: {
      does: () => says(['--sched'], 'chrt -f 10 true', ''),
      sees: [['sched_setscheduler', steps.schedule]],
    },
    limit: {
      does: () => says(['--rlimits'], 'ulimit -n 1000; prlimit --nofile=2000:2000 true', ''),
      sees: [['prlimit64', steps.limit]],
      cannot: cannotRaiseLimits,
    },
    mount: {
      does: () => says(['--mounts'], `${caller('mount', '/mnt', device, 'ext4')} && cat /mnt/hello`, `${OK}hello\n`),
      sees: [['sendmsg', steps.askMounter]],
    },
    openContext: {
      does: () => mounting.to('fsopen'),
      sees: [['sendmsg', steps.askMounter]],
    },
    create: asked('create'),
    mountContext: asked('fsmount'),
    renewMount: asked('mount_setattr'),
    placeMount: asked('move_mount'),
    remount: {
      does: () => says(['--mounts'], `${tmpfs} && mount -o remount,size=2m /mnt`, ''),
      sees: [['sendmsg', steps.askMounter]],
    },
    pickContext: {
      does: () => picking.to('fspick'),
      sees: [['sendmsg', steps.askMounter]],
    },
    reconfigure: {
      does: () => picking.to('reconfigure'),
      sees: [['sendmsg', steps.askMounter]],
    },
    delegate: {
      does: () => tokens.to('option'),
      sees: [
        ['pidfd_open', steps.look],
        ['sendmsg', steps.askMounter],
      ],
      needs: 'bpfTokens',
    },
    createBpffs: {
      does: () => tokens.to('bpffs'),
      sees: [['sendmsg', steps.askMounter]],
      needs: 'bpfTokens',
    },
    loadProgram: {
      async does() {
        expect(await programs.load()).toBeGreaterThan(0)
      },
      sees: [
        [`bpf:${BPF.PROG_LOAD}`, steps.changePrograms],
        [`bpf:${BPF.OBJ_GET_INFO_BY_FD}`, steps.askPrograms],
        ['pipe2', steps.countApart],
      ],
    },
    attachProgram: {
      does: async () => void (await programs.attached()),
      sees: [
        [`bpf:${BPF.PROG_QUERY}`, steps.askPrograms],
        [`bpf:${BPF.PROG_ATTACH}`, steps.changePrograms],
      ],
    },
    detachProgram: {
      async does() {
        const { program, group } = await programs.attached()
        await programs.call(BPF.PROG_DETACH, 12, { 0: group, 4: program, 8: DEVICE })
      },
      sees: [[`bpf:${BPF.PROG_DETACH}`, steps.changePrograms]],
    },
    listPrograms: {
      async does() {
        const { group } = await programs.attached()
        await programs.call(BPF.PROG_QUERY, 64, { 0: group, 4: DEVICE, 24: 4 }, ['16:+16', '32:+16'])
      },
      sees: [[`bpf:${BPF.PROG_QUERY}`, steps.askPrograms]],
    },
    openProgram: {
      async does() {
        const { program } = await programs.attached()
        const { buffers } = await programs.caller.bpf(BPF.OBJ_GET_INFO_BY_FD, describing(program))
        await programs.caller.ask(`close ${program}`)
        // With the next one it is noticed that nobody has that descriptor any more.
        await programs.load()
        await programs.call(BPF.PROG_GET_FD_BY_ID, 12, { 0: idOf(buffers[0]!) })
      },
      sees: [
        [`bpf:${BPF.PROG_GET_FD_BY_ID}`, steps.findProgram],
        ['pipe2', steps.countApart],
      ],
    },
    describeProgram: {
      async does() {
        const { bytes, buffers } = describing(await programs.load())
        await sampler.take()
        expect((await programs.caller.bpf(BPF.OBJ_GET_INFO_BY_FD, { bytes, buffers: buffers! })).result).toBe(0)
      },
      sees: [[`bpf:${BPF.OBJ_GET_INFO_BY_FD}`, steps.describeProgram]],
    },
    linkProgram: {
      does: async () => void (await programs.linked()),
      sees: [[`bpf:${BPF.LINK_CREATE}`, steps.changePrograms]],
    },
    updateLink: {
      async does() {
        const { program, link } = await programs.linked()
        const other = await programs.load()
        await programs.call(BPF.LINK_UPDATE, 16, { 0: link, 4: other, 8: REPLACE, 12: program })
      },
      sees: [[`bpf:${BPF.LINK_UPDATE}`, steps.changePrograms]],
    },
    detachLink: {
      async does() {
        const { link } = await programs.linked()
        await programs.call(BPF.LINK_DETACH, 4, { 0: link })
      },
      sees: [[`bpf:${BPF.LINK_DETACH}`, steps.changePrograms]],
    },
  }
  test("the engine's main thread is permitted what its threads need, and what it needs to settle them and to end programs", () => {
    const status = readFileSync(`/proc/${host.enginePid}/status`, 'latin1')
    const [inherited, allowed, effective] = ['CapInh', 'CapPrm', 'CapEff'].map((set) => maskIn(status, set))
    expect([inherited, named(allowed!), named(effective!)]).toEqual([0n, named(MAIN), named(MAIN)])
  })

  const rows: string[] = []
  afterAll(() => {
    if (process.env.INTERCEDE_CAPABILITIES)
      console.log(['| verb | declared | seen |', '| --- | --- | --- |', ...rows].join('\n'))
  })

  test.for(Object.entries(scenes) as [keyof typeof scenes, Scene][])(
    '%s',
    async ([verb, { does, sees, needs, cannot }], { skip }) => {
      const why = cannot ?? (needs && lacks(needs))
      if (why) skip(why)
      await sampler.take()
      await does()
      const samples = await sampler.take()
      rows.push(row(verb, samples))
      const seen = new Set(samples.map(({ call, effective }) => `${call} with ${named(effective)}`))
      for (const [call, step, own] of sees) expect([...seen]).toContain(`${call} with ${named(maskOf(step, own))}`)
      expect(undeclared(verb, samples)).toEqual([])
    },
  )
})

/** A build that has one thing wrong. */
interface Wrong {
  readonly what: string
  readonly file: string
  readonly from: string
  readonly to: string
}

/** What is seen of `chrt` in a container, served by a build that has one thing wrong. */
async function scheduling(
  { file, from, to }: Wrong,
  look: (seen: { samples: readonly Sample[]; said: string; host: Host }) => Promise<void>,
): Promise<void> {
  const build = new PatchedBuild(file, from, to)
  const host = await Host.start(policy, {}, build.url)
  const engine = host.enginePid
  try {
    const sampler = await Sampler.attach(engine)
    const { stdout, stderr } = await host.run(['--sched'], ['sh', '-c', 'chrt -f 10 true; chrt -p $$'])
    const samples = await sampler.take()
    await sampler.end()
    await look({ samples, said: stdout + stderr, host })
    expect(host.enginePid).toBe(engine)
  } finally {
    host.close()
    await build.remove(engine)
  }
}

const VERB = 'verbs/schedule.js'
const DOES = 'caller.act(steps.schedule,'
const DECIDES = 'function decide({ pid, policy, priority, to }, caller, { schedSetscheduler }) {'

describe.skipIf(absent)(withReason('a build with one capability too many', absent), () => {
  test.each<Wrong & { readonly found: string }>([
    {
      what: 'in a step',
      file: 'calls/steps.js',
      from: "'change the scheduling of the task', ['SYS_NICE']",
      to: "'change the scheduling of the task', ['SYS_NICE', 'SYS_ADMIN']",
      found: 'sched_setscheduler with SYS_ADMIN+SYS_NICE in effect',
    },
    {
      what: 'in a verb, which declares another step',
      file: VERB,
      from: `run({ task, to }, caller) {`,
      to: `steps: [steps.schedule, steps.findProgram], run({ task, to }, caller) {
        caller.act(steps.findProgram, () => pidfdIsAlive(task.pidfd));`,
      found: 'pidfd_send_signal with SYS_ADMIN in effect',
    },
    {
      what: 'permitted',
      file: 'caller/identity/thread-identity.js',
      from: 'capMask(...permitted)',
      to: 'capMask(...permitted, "KILL")',
      found: 'sched_setscheduler with KILL permitted',
    },
  ])('$what: it is found', async ({ found, ...wrong }) => {
    await scheduling(wrong, async ({ samples }) => expect(undeclared('schedule', samples)).toContain(found))
  })

  test.each<Wrong & { readonly by: string }>([
    { what: 'by an act', file: VERB, from: DOES, to: 'caller.act(steps.findProgram,', by: 'schedule' },
    {
      what: 'before there is a verdict',
      file: 'syscalls/sched.js',
      from: DECIDES,
      to: `${DECIDES} caller.act(${JSON.stringify(steps.findProgram)}, () => {});`,
      by: 'looking',
    },
  ])(
    'asked for $what, but not declared: the call fails, and the thread serves the next one',
    async ({ by, ...wrong }) => {
      await scheduling(wrong, async ({ samples, said, host }) => {
        expect(said).toContain('Input/output error')
        expect(said).toContain('SCHED_OTHER')
        expect(samples.filter(({ call }) => call === 'sched_setscheduler')).toEqual([])
        expect(undeclared('schedule', samples)).toEqual([])
        const message = `Cannot serve sched_setscheduler: Error: Cannot open a program or link by its number: "${by}" does not declare it`
        const faults = () => host.events.filter(({ type }) => type === 'fault')
        await until('the fault is told', () => faults().length > 0)
        expect(faults()).toEqual([{ type: 'fault', message }])
        const made = await host.call(['mknod', join(host.directory, 'next'), '020666', '1', '3'])
        expect(made).toMatchObject({ result: 'ok' })
      })
    },
  )
})
