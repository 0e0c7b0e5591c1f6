import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Cap, capMask } from '../../../src/abi/credentials.ts'
import { hierarchies } from '../../../src/mounter/join-cgroups.ts'
import { type ProcessCaps, processCaps } from '../../../src/processes/process-caps.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { TaskGroup } from '../../support/groups.ts'
import { BASE, devicePrograms, Host, mknodPolicy, until } from '../../support/host.ts'
import { walkersOf } from '../../support/hostile.ts'
import { Images, must } from '../../support/images.ts'
import { mounters } from '../../support/mounters.ts'
import { PatchedBuild } from '../../support/patched-build.ts'
import { lacks, lacksFileSystem, withReason } from '../../support/skipped.ts'
import { Strace } from '../../support/strace.ts'
import { namesOf, restDifferences, stepsIn, TRACED } from '../../support/traced-helpers.ts'

const cannot = lacksFileSystem('hugetlbfs') ?? missing('gcc', 'losetup', 'mkfs.ext4', 'busybox', 'debugfs', 'strace')
const policy = {
  ...mknodPolicy,
  mount: { allowed: new Set(['ext4', 'hugetlbfs', 'tmpfs']), fuse: new Map(), shift: false, nodev: true },
  setxattr: { allowed: new Set(['trusted.glusterfs.*']), read: false },
  bpf: { ...devicePrograms, devices: false, delegateCmds: new Set(['prog_load']) },
}
const TOKENS = lacks('bpfTokens') ? [] : ['adopt', 'createBpffs']
const MOUNTER: ProcessCaps = processCaps.mounter
const WALKER: ProcessCaps = processCaps.walker
const TRIES = 3
const OK = '{"ok":true}\n'
/** The end of `mountAll`, if all went well. */
const DONE = /umount: ok\n{"ok":true}\n{"ok":true,"value":0,"text":""}\n$/
const MKNODAT = process.arch === 'arm64' ? 33 : 259
/** By which calls a walker becomes a caller. */
const BECOMING = ['setgroups', 'setresgid', 'setresuid', 'chroot']

let images: Images
let devices: { readonly open: string; readonly closed: string }
let scratch: string
beforeAll(() => {
  if (cannot) return
  images = new Images()
  const closed = images.make('ext4')
  // Nobody but its owner may open its root directory.
  for (const change of ['mode 040700', 'uid 1000']) must('debugfs', ['-w', '-R', `set_inode_field / ${change}`, closed])
  devices = { closed: images.attach(closed), open: images.device('ext4') }
  scratch = mkdtempSync(join(tmpdir(), 'intercede-caps-'))
})
afterAll(async () => {
  images?.[Symbol.dispose]()
  if (scratch) rmSync(scratch, { recursive: true })
  for (const build of builds.values()) await build.remove(lastEngine)
})

/** A container that takes a path which only a walker finds. @param meanwhile is called while its walker lives */
async function walk(host: Host, meanwhile: () => void): Promise<string> {
  const at = (name: string): string => join(host.directory, name)
  for (const [index, path] of ['theirs', 'theirs/deep'].entries()) {
    mkdirSync(at(path), { mode: 0o700 })
    chownSync(at(path), BASE + 1000 + index, BASE + 1000)
  }
  const options = ['--pidns', '--uid', '5', '--gid', '5', '--keep-caps']
  const script = `${fixture('caller')} mknod ${at('theirs/deep/n')} 020666 1 3; until [ -e ${at('over')} ]; do sleep 0.02; done`
  // Under strace(1), on a busy machine, a walker may take longer to start than a call waits for it.
  for (let tries = 1; ; tries++) {
    rmSync(at('over'), { force: true })
    const before = host.records.length
    const running = host.run(options, ['sh', '-c', script])
    await until('the call is over', () => {
      host.drain()
      return host.records.length > before
    })
    meanwhile()
    writeFileSync(at('over'), '')
    const { stdout } = await running
    if (stdout.includes('"ok":true') || tries === TRIES) return stdout
  }
}

/** A container that mounts in every way, in control groups that only root of the host and of the container may join. */
async function mountAll(host: Host): Promise<string> {
  const at = (name: string): string => join(host.directory, name)
  for (const [name, device] of Object.entries(devices)) {
    execFileSync('mknod', ['-m', '600', at(name), 'b', '7', device.replace(/\D/g, '')])
    chownSync(at(name), BASE, BASE)
  }
  // A task that executes what it may not read belongs to the user namespace of the host: fs/exec.c would_dump().
  const programs = { mount: '/usr/bin/mount', busybox: '/usr/bin/busybox', 'token-steps': fixture('token-steps') }
  for (const [name, program] of Object.entries(programs)) {
    copyFileSync(program, at(name))
    chmodSync(at(name), 0o711)
  }
  const script = `${at('busybox')} mount -t hugetlbfs none /mnt; umount /mnt; ${at('mount')} -t hugetlbfs none /mnt; umount /mnt
    LIBMOUNT_FORCE_MOUNT2=always mount -t ext4 ${at('open')} /mnt && cat /mnt/hello && umount /mnt
    yes | ${fixture('pick-steps')} /mnt && LIBMOUNT_FORCE_MOUNT2=always mount -o remount,size=3m /mnt && umount /mnt
    yes | ${fixture('mount-steps')} ext4 ${at('closed')} /mnt
    ${TOKENS.length > 0 ? `yes | ${at('token-steps')} | grep -v ': ok$'` : ''}
    ${at('mount')} -t tmpfs none /mnt && ${fixture('caller')} mknod /mnt/console 020666 5 1
    perl -e 'syscall(${MKNODAT}, -100, "/mnt/$_", 020666, 0x103) for 1..1100'
    ${fixture('caller')} setxattr /mnt trusted.glusterfs.x y; umount -R /mnt`
  using group = new TaskGroup(join(hierarchies().at(-1)!, `intercede-test-${process.pid}-caps`), [])
  chownSync(join(group.path, 'cgroup.procs'), BASE, BASE)
  const options = ['--mounts', '--xattr', '--cgroup', group.path]
  const { stdout, stderr } = await host.run(options, ['unshare', '--mount', 'sh', '-c', script])
  return `${stdout}${stderr}`
}

/** @param meanwhile is called while the helper is there and rests */
async function use(host: Host, what: 'mounter' | 'walker', meanwhile = (): void => {}): Promise<string> {
  if (what === 'walker') return walk(host, meanwhile)
  const said = await mountAll(host)
  meanwhile()
  return said
}

/** Builds in which one thing is wrong: several tests have the same. */
const builds = new Map<Wrong, PatchedBuild>()
let lastEngine: number | undefined

interface Wrong {
  readonly file: string
  readonly from: string
  readonly to: string
}

/** @param wrong of the usual build if nothing is */
async function start(wrong?: Wrong): Promise<Host> {
  if (wrong && !builds.has(wrong)) builds.set(wrong, new PatchedBuild(wrong.file, wrong.from, wrong.to))
  const host = await Host.start(policy, {}, wrong && builds.get(wrong)!.url)
  lastEngine = host.enginePid
  return host
}

interface Seen {
  readonly said: string
  /** What a process has that rests, beyond or beneath what is declared. */
  readonly rest: readonly string[]
  /** What strace(1) saw of the main thread of each. */
  readonly traces: readonly string[]
}

async function watch(what: 'mounter' | 'walker', wrong?: Wrong): Promise<Seen> {
  const host = await start(wrong)
  const output = mkdtempSync(join(scratch, 'trace-'))
  const engine = host.enginePid
  try {
    const strace = await Strace.attach(engine, ['-ff', '-s', '40', '-e', TRACED, '-o', join(output, 'of')])
    try {
      // On a busy machine an engine may have started another one meanwhile.
      let pids: readonly (number | string)[] = []
      let rest: readonly string[] = []
      const look = (): void => {
        pids = what === 'mounter' ? mounters(engine) : walkersOf(engine)
        rest = pids.flatMap((pid) => restDifferences(pid, processCaps[what]))
      }
      const said = await use(host, what, look)
      if (pids.length === 0) throw new Error(`There is no ${what}: ${said}`)
      await strace.end()
      return { said, rest, traces: pids.map((pid) => readFileSync(join(output, `of.${pid}`), 'latin1')) }
    } finally {
      await strace.end()
    }
  } finally {
    host.close()
  }
}

const namesIn = (effective: ProcessCaps['effective'], kind: string): readonly Cap[] =>
  Object.keys(effective[kind] ?? {}) as Cap[]

/** As the caller a mounter makes a node, here without capabilities of the caller's, and then becomes itself again. */
const AS_CALLER = capMask('MKNOD', 'SETUID', 'SETGID')
function mounterSets(call: string, request: string): readonly bigint[] {
  if (call === 'mknodat' && request === 'node') return [AS_CALLER]
  const own = capMask(...namesIn(MOUNTER.effective, request))
  return request === 'node' ? [own, AS_CALLER] : [own]
}

const allSteps = (traces: readonly string[], executed: bigint) => traces.flatMap((trace) => stepsIn(trace, executed))

/** Where the main thread of a mounter has other capabilities at a privileged call than are declared for what it was asked. */
function mounterDifferences({ rest, traces }: Seen): readonly string[] {
  const calls = allSteps(traces, capMask(...MOUNTER.permitted)).filter(({ call }) => call !== 'capset')
  const differences = calls
    .filter(({ call, effective, request }) => !mounterSets(call, request).includes(effective))
    .map(({ call, effective, request }) => `${request}, ${call}: ${namesOf(effective)}`)
  return [...new Set([...rest, ...differences])]
}

/** The sets that a walker enters for one path: of those for walking what its caller has, which here is all. */
const WALK = ['become', 'walk', 'rest'].map((kind) => capMask(...namesIn(WALKER.effective, kind)))

function walkerDifferences({ rest, traces }: Seen): readonly string[] {
  const steps = allSteps(traces, capMask(...WALKER.permitted))
  const [first, ...entered] = steps.flatMap(({ call, effective }) => (call === 'capset' ? [effective] : []))
  const sets = entered
    .filter((set, index) => set !== WALK[index % WALK.length])
    .map((set) => `unexpected: ${namesOf(set)}`)
  const becoming = steps
    .filter(({ call, effective }) => BECOMING.includes(call) && effective !== WALK[0])
    .map(({ call, effective }) => `${call}: ${namesOf(effective)}`)
  const walked = first === 0n && entered.length >= WALK.length ? [] : ['it walked not']
  return [...rest, ...walked, ...sets, ...becoming]
}

const AT_REST: Wrong = { file: 'engine/helpers/spawn-guard.js', from: "['-all',", to: "['-all', '+sys_nice'," }
const CAPS = 'processes/process-caps.js'
const AT_WORK: Wrong = { file: CAPS, from: 'this.#effective.get(kind) & among', to: 'this.#permitted' }
/** What each process reads when it starts: a kind of request, and the capabilities that it shall have for that. */
const LESS = join(tmpdir(), `intercede-less-${process.pid}`)
const READ = `const [less, all] = process.getBuiltinModule('fs').readFileSync(${JSON.stringify(LESS)}, 'latin1').split(' ')`
const WITH_LESS: Wrong = {
  ...{ file: CAPS, from: 'const masks = Object.entries(effective).map(([kind, needed]) => [kind, ' },
  to: `${READ}; const masks = Object.entries(effective).map(([kind, needed]) => [kind, (kind === less ? BigInt(all) : -1n) & `,
}

describe.skipIf(cannot)(withReason('a mounter has no capability but those declared', cannot), () => {
  test('at any privileged call, nor at rest', async () => {
    const seen = await watch('mounter')
    expect(seen.said).toMatch(/^hello\n(.*: ok\n){8}create again: EBUSY\n/)
    expect(seen.said).toMatch(DONE)
    const asked = allSteps(seen.traces, 0n).map(({ request, call }) =>
      call === 'mknodat' && request === 'node' ? 'nodeAsCaller' : request,
    )
    // To join is no request.
    const unasked = ['adopt', 'createBpffs'].filter((kind) => !TOKENS.includes(kind))
    expect(new Set([...asked, 'join', ...unasked])).toEqual(new Set(Object.keys(MOUNTER.effective)))
    expect(mounterDifferences(seen)).toEqual([])
  })

  test('a build that permits one more is found', async () => {
    expect(mounterDifferences(await watch('mounter', AT_REST)).join()).toMatch(/main: CapBnd .*SYS_NICE/)
  })

  test('a build that has more than a request needs is found', async () => {
    expect(mounterDifferences(await watch('mounter', AT_WORK)).join()).toMatch(/attach, setns: .*MKNOD/)
  })
})

describe.skipIf(cannot)(withReason('a walker has no capability but those declared', cannot), () => {
  test('as it becomes its caller and walks, nor at rest', async () => {
    const seen = await watch('walker')
    expect(seen.said).toBe(OK)
    expect(walkerDifferences(seen)).toEqual([])
  })

  test('a build that permits one more is found', async () => {
    expect(walkerDifferences(await watch('walker', AT_REST)).join()).toMatch(/main: CapBnd .*SYS_NICE/)
  })

  test('a build that has more than a step needs is found', async () => {
    expect(walkerDifferences(await watch('walker', AT_WORK)).join()).toMatch(/chroot: .*DAC_OVERRIDE/)
  })
})

/** For a walker: what any one of several capabilities gives is not among them. */
const NEEDED = [
  ...['join', 'mount', 'create', 'finish', 'renew', 'attach', ...TOKENS].flatMap((kind) =>
    namesIn(MOUNTER.effective, kind).map((cap) => ({ what: 'mounter' as const, kind, cap })),
  ),
  ...(['SETUID', 'SETGID', 'SYS_CHROOT'] as const).map((cap) => ({ what: 'walker' as const, kind: 'become', cap })),
]

describe.skipIf(cannot)(withReason('each capability is needed', cannot), () => {
  let all: Record<'mounter' | 'walker', string>
  beforeAll(async () => {
    all = { mounter: await without('mounter'), walker: await without('walker') }
  })
  afterAll(() => rmSync(LESS, { force: true }))

  async function without(what: 'mounter' | 'walker', less?: { kind: string; cap: Cap }): Promise<string> {
    writeFileSync(LESS, less ? `${less.kind} ${~capMask(less.cap)}` : ' 0')
    const host = await start(WITH_LESS)
    try {
      return await use(host, what)
    } finally {
      host.close()
    }
  }

  test('a mount with all of them works', () => {
    expect(all.walker).toBe(OK)
    expect(all.mounter).toMatch(DONE)
  })

  test.each(NEEDED)('of a $what, to $kind: $cap', async ({ what, ...less }) => {
    expect(await without(what, less)).not.toBe(all[what])
  })
})
