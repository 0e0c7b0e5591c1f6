import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeBundle } from '../../support/bundle.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { BASE, CLI, Machine } from '../../support/machine.ts'
import { hasRuntime, INTERCEDE, unable } from '../../support/run-machine.ts'
import { completing, noShell, Path, SHELLS } from '../../support/shells.ts'
import { withReason } from '../../support/skipped.ts'
import { asUser } from '../../support/user.ts'

const why = unable() ?? (hasRuntime('crun') ? undefined : 'crun is missing')

/** What the directory of the shells has in it. */
const HERE = mkdtempSync(join(tmpdir(), 'intercede-completion-'))
afterAll(() => rmSync(HERE, { recursive: true }))

/** Containers by their ids, with their names, of which the last three are none for a shell. */
const NAMES = {
  'it-complete-a': 'web-1',
  'it-complete-b': 'ns/pod:web',
  'it-complete-c': '$(touch touched)',
  'it-complete-d': 'a b;touch touched\n`touch touched`\u001b[2J',
  'it-complete-e': '--feed=/',
} as const
const NAMELESS = ['it-complete-c', 'it-complete-d', 'it-complete-e']
const OFFERED = ['ns/pod:web', 'web-1', ...NAMELESS].sort()

/** What other programs complete. */
const COMMANDS = '/usr/share/bash-completion/bash_completion'
const lacksCommands = noShell('bash') ?? (existsSync(COMMANDS) ? undefined : 'bash-completion is not installed')

let machine: Machine
const feed = (): string => join(machine.directory, 'feed.sock')
const config = (): string => join(machine.directory, 'profiles.yaml')
const intercede = (...args: readonly string[]): Promise<Done> => execute(process.execPath, [CLI, ...args])
const global = (): readonly string[] => ['--root', join(machine.directory, 'state'), '--cgroup-manager', 'cgroupfs']
const crun = (...args: readonly string[]): Promise<Done> => machine.run('crun', ...global(), ...args)

/** Starts a container that sleeps, with a name that nobody has looked at. */
function sleep(id: string, name: string, profile: string): Promise<number | null> {
  const folder = writeBundle(machine, { id, args: ['sleep', '600'], profile, capabilities: ['CAP_MKNOD'] })
  const file = join(folder, 'config.json')
  const spec = JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, JSON.stringify({ ...spec, annotations: { 'nerdctl/name': name } }))
  return machine.leave('crun', ...global(), 'run', '--detach', '--bundle', folder, id)
}

/** How each shell is given its completion, and tells that it has it. */
const GIVEN = [
  [
    'bash',
    ['--norc', '-c', 'source <(intercede completion bash); complete -p intercede'],
    /^complete -F _intercede intercede$/m,
  ],
  [
    'zsh',
    ['-f', '-c', 'autoload -Uz compinit; compinit -D -u; source <(intercede completion zsh); print $_comps[intercede]'],
    /^_intercede$/m,
  ],
  ['fish', ['--no-config', '-c', 'intercede completion fish | source; complete -C "intercede ins"'], /^inspect\t/],
] as const

describe.each(GIVEN)('%s', (name, words, has) => {
  const lacks = noShell(name)
  test.skipIf(lacks)(withReason('has its completion after what the help says', lacks), async () => {
    using path = new Path()
    const env = { ...process.env, PATH: `${path.directory}:${process.env.PATH}` }
    expect(await execute(name, words, { env })).toMatchObject({ stdout: expect.stringMatching(has), stderr: '' })
  })
})

test.each([
  [[], /^intercede: Cannot print a completion: no shell is named; name one of bash, zsh, fish\n$/],
  [
    ['tcsh'],
    /^intercede: Cannot read the command line: .*'tcsh' is invalid.*: allowed choices are bash, zsh, fish; .*\n$/,
  ],
] as const)('completion of %j ends with 2 and one sentence', async (words, says) => {
  expect(await intercede('completion', ...words)).toEqual({
    status: 2,
    stdout: '',
    stderr: expect.stringMatching(says),
  })
})

describe.skipIf(why)(withReason('completion', why), () => {
  let run: ChildProcess | undefined

  beforeAll(async () => {
    mkdirSync(join(HERE, 'dir one'))
    writeFileSync(join(HERE, 'file'), '')
    machine = new Machine()
    await machine.serve()
    const profile = join(machine.directory, 'profile.json')
    await intercede('profile', '-c', 'mknod', '--runtime', 'crun', '--listener', machine.socket, '--output', profile)
    writeFileSync(config(), 'profiles: { build: { mknod: true }, vpn: {}, "$(touch touched)": {}, "a b": {} }\n')
    await execute('chown', ['-R', `${BASE}:${BASE}`, machine.rootfs])
    for (const [id, name] of Object.entries(NAMES)) expect(await sleep(id, name, profile)).toBe(0)
    const count = async (): Promise<number> =>
      (await intercede('ps', '--wide', '--feed', feed())).stdout.split('it-complete-').length - 1
    await until('all containers are served', async () => (await count()) === OFFERED.length, 60)
    run = spawn(process.execPath, [INTERCEDE, 'run', '-c', 'mknod', '--', 'sleep', '600'], { stdio: 'ignore' })
    const runs = async (): Promise<string> => (await intercede('completion', '--list', 'runs')).stdout
    await until('a run is there', async () => (await runs()).startsWith(`${run?.pid}-`), 30)
  }, 100_000)
  afterAll(async () => {
    run?.kill('SIGTERM')
    for (const id of Object.keys(NAMES)) await crun('delete', '--force', id)
    await machine.close()
  }, 60_000)

  describe.each(SHELLS)('%s', (name) => {
    const lacks = noShell(name)

    test.skipIf(lacks)(
      withReason('offers what is known without a daemon, and starts nothing for it', lacks),
      async () => {
        using shell = await completing(name, HERE)
        /** What a shell adds by itself. */
        const own = name === 'fish' ? ['--write='] : []
        const keys = [
          'mknod',
          'mknod.devices=',
          'mode=',
          'mount',
          'mount.allowed=',
          'mount.fuse=',
          'mount.nodev',
          'mount.shift',
        ]
        const sched = ['', '.ioprio', '.max_priority', '.min_nice'].map((end) => `sched_setscheduler${end}`)
        const slash = name === 'fish' ? '/' : ''
        for (const [line, expected] of [
          ['ins', ['inspect']],
          ['completion ', ['bash', 'fish', 'zsh']],
          ['help st', ['status', 'stop']],
          ['run -c m', keys],
          ['set web -- mknod m', keys],
          ['run -c security.syscalls.intercept.sy', ['security.syscalls.intercept.sysinfo']],
          ['run -c mknod=', ['mknod=false', 'mknod=true']],
          ['run --config=mknod=t', ['--config=mknod=true']],
          ['run -c mount.allowed=ext4,x', ['mount.allowed=ext4,xfs']],
          ['flags podman --trap mount.fuse=ext4=fuse2fs,s', ['mount.fuse=ext4=fuse2fs,squashfs=squashfuse']],
          ['run -c mknod.devices=c:10:2', ['mknod.devices=c:10:200', 'mknod.devices=c:10:229']],
          ['set web --unset sched', sched],
          ['run --net ', ['host', 'none']],
          ['run --net=', ['--net=host', '--net=none']],
          ['flags ', ['buildah', 'compose', 'containerd', 'docker', 'kubernetes', 'lxc', 'podman', 'podman-build']],
          ['flags podman --wr', ['--write', ...own]],
          ['profile --cap-add=SYS_A', ['--cap-add=SYS_ADMIN']],
          ['ps --format ', ['json', 'table']],
          ['events --format s', ['strace']],
          ['top --sort in', ['inFlight']],
          ['serve --config f', ['file']],
          ['run --rootfs d', [`dir one${slash}`]],
          ['run -c mknod --bind f', ['file']],
          ['run --env INTERCEDE_COMP', ['INTERCEDE_COMPLETES']],
          ['run -- mkfs.ext', ['mkfs.ext2', 'mkfs.ext3', 'mkfs.ext4']],
          ['run -c mknod -- ls f', ['file']],
          ['nothing ', []],
        ] as const)
          expect({ line, words: [...(await shell.offers(line))].sort() }).toEqual({ line, words: expected })
        expect(shell.starts()).toBe(0)
      },
    )

    test.skipIf(lacks)(
      withReason('offers containers and profiles by one start of it, and evaluates no name', lacks),
      async () => {
        using shell = await completing(name, HERE)
        for (const [line, expected] of [
          [`inspect --feed ${feed()} `, OFFERED],
          [`inspect --feed=${feed()} web-1 we`, ['web-1']],
          [`events --feed ${feed()} ns/pod:`, ['ns/pod:web']],
          [`explain --feed ${feed()} it-complete-`, Object.keys(NAMES)],
          [`explain --feed ${feed()} deviceNotA`, ['deviceNotAllowed']],
          [`set --feed ${feed()} w`, ['web-1']],
          [`set --feed ${feed()} web-1 sys`, ['sysinfo']],
          [`flags podman --daemon-config ${config()} --profile `, ['build', 'vpn']],
          [`profile --daemon-config=${config()} --profile=b`, ['--profile=build']],
          [`inspect --feed ${feed()} '`, name === 'bash' ? OFFERED : undefined],
          [`stop ${run?.pid}`, undefined],
        ] as const) {
          const before = shell.starts()
          const words = [...(await shell.offers(line))].sort()
          if (expected) expect({ line, words }).toEqual({ line, words: expected })
          expect(shell.starts() - before).toBeLessThanOrEqual(1)
        }
        expect(await shell.offers(`stop ${run?.pid}`)).toEqual([expect.stringMatching(`^${run?.pid}-\\d+$`)])
        expect(readdirSync(HERE).sort()).toEqual(['dir one', 'file'])
      },
    )

    test.skipIf(lacks)(
      withReason('offers no names, and says nothing, where there is no daemon or file', lacks),
      async () => {
        using shell = await completing(name, HERE)
        expect(await shell.offers('inspect --feed /nowhere ')).toEqual([])
        expect(await shell.offers('explain --feed /nowhere deviceNotA')).toEqual(['deviceNotAllowed'])
        expect(await shell.offers('flags podman --daemon-config /nowhere --profile ')).toEqual([])
      },
    )
  })

  test.skipIf(lacksCommands)(
    withReason('what follows run is completed as the package bash-completion does it', lacksCommands),
    async () => {
      using shell = await completing('bash', HERE, `. ${COMMANDS}`)
      expect(await shell.offers('run -c mknod=true -- git --man-p')).toEqual(['--man-path'])
      expect(await shell.offers('run -c mknod -- ls --al')).toEqual(['--all', '--almost-all'])
      expect(await shell.offers('run mkfs.erof')).toEqual(['mkfs.erofs'])
    },
  )

  test('what a shell gets is plain words, and the rest is escaped', async () => {
    const { stdout, stderr } = await intercede('completion', '--list', 'containers', '--feed', feed(), '--begun', 'i')
    expect(stderr).toBe('')
    const lines = stdout.trimEnd().split('\n')
    for (const line of lines) expect(line).toMatch(/^[A-Za-z0-9][\w.:/-]*\t[ -~]*$/)
    expect(lines.find((line) => line.startsWith('it-complete-d'))).toBe(
      'it-complete-d\ta b;touch touched\\012`touch touched`\\033[2J, crun, served',
    )
  })

  test('who may not ask the daemon gets nothing, and no word of it', async () => {
    const script = `intercede completion --list containers --feed "$SCRATCH/feed.sock"; echo "status $?"`
    expect(await asUser(machine, script)).toMatchObject({ stdout: 'status 0\n', stderr: '' })
  })

  test('a container that has ended is offered where it can be asked about, and not where it can be changed', async () => {
    await crun('delete', '--force', 'it-complete-a')
    const list = async (what: string): Promise<string> =>
      (await intercede('completion', '--list', what, '--feed', feed())).stdout
    // A list that takes too long on a busy machine is empty.
    const isKnown = async (): Promise<boolean> => /^web-1\tit-complete-a, crun, ended$/m.test(await list('containers'))
    await until('its end is known', isKnown, 20)
    expect(await list('live')).not.toContain('web-1')
  })
})

test('each format that is offered is one of the command, and no other', async () => {
  const text = readFileSync(new URL('../../../dist/completions/intercede.fish', import.meta.url), 'utf8')
  for (const command of ['ps', 'inspect', 'events', 'top', 'explain', 'status']) {
    const [, offered] = new RegExp(`__intercede_in ${command}' -l format -x -a '([^']*)'`).exec(text)!
    const { stderr, status } = await intercede(command, '--format', 'none', ...(command === 'inspect' ? ['x'] : []))
    expect(status).toBe(2)
    expect(stderr).toContain(`it may be ${offered!.replaceAll(' ', ', ')}, or a text with fields`)
  }
})
