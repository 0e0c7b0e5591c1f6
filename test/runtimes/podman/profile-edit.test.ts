import { existsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman } from '../../support/podman.ts'
import { withReason } from '../../support/skipped.ts'

const absent = missing('podman', 'crun', 'busybox')
const BUILD = 'profiles: { build: { mknod: true } }\n'
const CONTAINER = 'edited'

let machine: Machine
let podman: Podman
beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  await machine.serve(BUILD)
  podman = await Podman.start(machine)
})
afterAll(async () => {
  await podman?.close()
  await machine.close()
})

const config = (): string => join(machine.directory, 'config.yaml')
const flags = (...options: readonly string[]): Promise<Done> => {
  const where = ['--daemon-config', config(), '--listener', machine.socket]
  return execute(process.execPath, [CLI, 'flags', 'podman', ...options, ...where])
}
const within = (script: string): Promise<Done> => podman.run('exec', CONTAINER, 'sh', '-c', script)

/** Edits the daemon's configuration, and waits until the daemon has read it. */
async function edit(text: string): Promise<void> {
  const served = (): number => machine.log.filter(({ message }) => message === 'serving').length
  const before = served()
  writeFileSync(config(), text)
  process.kill(machine.pid, 'SIGHUP')
  await until('the daemon has read it', () => served() > before)
}

describe.skipIf(absent)(withReason('a container of podman with a profile of the configuration', absent), () => {
  test('gets what the profile is edited to while it runs, as far as it traps it', async () => {
    const written = await flags('--profile', 'build', '--trap', 'sysinfo', '--write', machine.directory)
    expect(written.status).toBe(0)
    const options = written.stdout.trim().split('\n')
    expect(options.at(-1)).toMatch(/^--security-opt=seccomp=.*\/profile-build-[0-9a-f]{8}\.json$/)
    const run = ['run', '--detach', '--name', CONTAINER, '--cgroups=disabled', '--network=none']
    expect(await podman.leave(...run, ...options, 'test', 'sleep', '1000')).toBe(0)

    expect((await within('mknod /tmp/n c 1 3 && stat -c %t:%T /tmp/n')).stdout).toBe('1:3\n')
    expect(await within('mknod /tmp/t c 10 200')).toMatchObject({ status: 1 })
    const later = '{ mknod: true, mknod.devices: c:10:200, sysinfo: true, setxattr: true }'
    await edit(`profiles: { build: ${later} }\n`)
    expect((await within('mknod /tmp/t c 10 200 && stat -c %t:%T /tmp/t')).stdout).toBe('a:c8\n')
    await within('busybox free')
    await until('sysinfo is served', () =>
      machine.log.some(({ syscall, verdict }) => syscall === 'sysinfo' && verdict === 'done'),
    )

    // A reload changes nothing that the filter does not trap.
    const at = (name: string): string => join(dirname(machine.socket), name)
    const inspected = await execute(process.execPath, [CLI, 'inspect', CONTAINER, '--feed', at('feed.sock')])
    expect(inspected.stdout).toMatch(/^mknod +true +profile build +the profile in the configuration, then a reload$/m)
    expect(inspected.stdout).toMatch(/^bpf +false +default +a seccomp profile that traps it, and a new container$/m)
    writeFileSync(config(), 'profiles: { buidl: {} }\n')
    const dry = await execute(process.execPath, [CLI, 'reload', '--dry-run', '--control', at('control.sock')])
    expect(dry).toMatchObject({ status: 125, stderr: expect.stringMatching(/1 running container, \w+ \(edited\): /) })

    await edit('profiles: { build: {} }\n')
    expect(await within('mknod /tmp/m c 1 3')).toMatchObject({ status: 1 })
    await podman.run('rm', '--force', '--time=0', CONTAINER)
  })

  test('gets the capabilities of what --trap adds, for they are as fixed as its filter', async () => {
    const { stdout } = await flags('--profile', 'build', '--trap', 'sched_setscheduler', '--write', machine.directory)
    expect(stdout).toContain('\n--cap-add=SYS_NICE\n')
  })

  test('is told when the file that is there traps what the configuration said before, and only then', async () => {
    const intercede = `"${process.execPath}" "${CLI}" flags podman --profile build --no-base --daemon-config ${config()}`
    const more = 'profiles: { build: { mknod: true, sysinfo: true } }'
    const other = 'profiles: { build: { mknod: true }, other: { sysinfo: true } }'
    const script = [
      ...[
        `echo '${BUILD.trim()}' >${config()}`,
        `${intercede} --write`,
        // That on podman's filter would have another name.
        '! [ -e /etc/intercede/profile-build.json ] && cat /etc/intercede/profile-build-*.json',
      ],
      ...['echo first >&2', intercede, `echo '${other}' >${config()}`, intercede],
      ...[`echo '${more}' >${config()}`, 'echo then >&2', intercede],
    ].join(' && ')
    const { status, stdout, stderr } = await machine.run('sh', '-c', script)
    expect(status).toBe(0)
    expect(stdout).toContain('"listenerMetadata": "profile=build\\n"')
    const [, first, then] = stderr.split(/^(?:first|then)$/m)
    expect(first?.trim()).toBe('')
    expect(then?.trim()).toMatch(
      /^intercede: the profile "\/etc\/intercede\/profile-build-\w{8}\.json" does not trap what the configuration asks for by now: add --write$/,
    )
  })

  test('does not start if "intercede flags" fails', async () => {
    const made = join(machine.directory, 'made')
    const command = `podman run --rm $("${process.execPath}" "${CLI}" flags podman --profile biuld --daemon-config ${config()}) test true`
    const done = await machine.run('sh', '-c', `${command} && touch ${made}`)
    expect(done.status).toBe(125)
    expect(done.stderr).toContain('unknown flag: --intercede-flags-failed')
    expect(done.stderr).toContain('did you mean "build"?')
    expect(existsSync(made)).toBe(false)
  })
})
