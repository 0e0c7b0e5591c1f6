import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { debianRoot, whyNoDebianRoot } from '../../support/debian-root.ts'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { BASE, CLI, Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const MINUTES = 60_000
/** All that root of a container has in podman when it runs systemd. */
const CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'SETFCAP', 'SETGID', 'SETPCAP'],
  ...['SETUID', 'SYS_ADMIN', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_RESOURCE', 'NET_ADMIN', 'NET_BIND_SERVICE'],
].map((name) => `CAP_${name}`)
const IDS = [{ containerID: 0, hostID: BASE, size: 65536 }]

/** The root file system is shown with the ids of the container, for the time of one command. */
const SHIFTED = `mkdir -p "$0" && mount --bind -o X-mount.idmap=b:0:${BASE}:65536 "$1" "$0" && shift && exec "$@"`

/** Asks until systemd has done what it does to boot. */
const BOOTED = `for _ in $(seq 200); do
  state=$(systemctl is-system-running 2>&1)
  case $state in running | degraded | maintenance) break ;; esac
  sleep 0.2
done; echo "$state"`

const cannot = missing('crun') ?? (await whyNoDebianRoot())

describe.skipIf(cannot)(withReason('systemd as init', cannot), { timeout: 5 * MINUTES }, () => {
  let machine: Machine
  let root: string

  beforeAll(async () => {
    machine = new Machine()
    root = join(machine.directory, 'debian')
    expect(await execute('cp', ['--archive', debianRoot(), root])).toMatchObject({ status: 0, stderr: '' })
    await machine.serve()
  }, 5 * MINUTES)
  afterAll(async () => machine?.close())

  const crun = ['crun', '--cgroup-manager', 'cgroupfs', '--root'] as const
  const crunOf = (...args: readonly string[]): readonly string[] => [...crun, join(machine.directory, 'state'), ...args]

  async function bundle(keys: readonly string[]): Promise<string> {
    const file = join(machine.directory, 'config.json')
    await execute('rm', ['-f', file])
    await machine.run('crun', 'spec')
    const spec = JSON.parse(readFileSync(file, 'utf8'))
    const options = keys.flatMap((key) => ['-c', key])
    const profile = await execute(process.execPath, [CLI, 'profile', ...options, '--listener', machine.socket])
    const sets = ['bounding', 'effective', 'permitted'].map((set) => [set, CAPABILITIES])
    Object.assign(spec.process, {
      ...{ args: ['/sbin/init'], terminal: false, capabilities: Object.fromEntries(sets), noNewPrivileges: false },
      env: ['container=oci', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
    })
    Object.assign(spec.root, { path: join(machine.directory, 'shifted'), readonly: false })
    const cgroup = { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['rw', 'nosuid'] }
    const volatile = ['/run', '/tmp'].map((destination) => ({
      ...{ destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=755'] },
    }))
    spec.mounts = [...spec.mounts.filter((mount: { type: string }) => mount.type !== 'cgroup'), cgroup, ...volatile]
    spec.linux.namespaces = ['user', 'pid', 'mount', 'ipc', 'uts', 'cgroup', 'network'].map((type) => ({ type }))
    Object.assign(spec.linux, { uidMappings: IDS, gidMappings: IDS })
    if (keys.length > 0) spec.linux.seccomp = JSON.parse(profile.stdout)
    writeFileSync(file, JSON.stringify(spec))
    return machine.directory
  }

  /** Boots, and tells how that ended. */
  async function boot(keys: readonly string[]): Promise<string> {
    const id = `systemd-${process.pid}-${keys.length}`
    const shifted = ['-c', SHIFTED, join(machine.directory, 'shifted'), root]
    const status = await machine.leave(
      'sh',
      ...shifted,
      ...crunOf('run', '--detach', '--bundle', await bundle(keys), id),
    )
    const inside = (...command: readonly string[]): Promise<Done> =>
      machine.run('env', ...crunOf('exec', id, ...command))
    try {
      expect(status, readFileSync(join(machine.directory, 'started'), 'utf8')).toBe(0)
      const state = await inside('sh', '-c', BOOTED)
      const failed = await inside('systemctl', 'list-units', '--failed', '--plain', '--no-legend')
      const types = await inside('stat', '-f', '-c', '%n %T', '/run', '/dev/shm')
      return [state.stdout, failed.stdout, types.stdout].join('--\n')
    } finally {
      await machine.run('env', ...crunOf('delete', '--force', id))
    }
  }

  test('ends with mounts intercepted as without', async () => {
    const keys = ['mount=true', 'mount.allowed=ext4,xfs,btrfs', 'mount.shift=true']
    const native = await boot([])
    expect(native).toMatch(/^(running|degraded)\n--\n/)
    expect(native).toContain('/run tmpfs\n/dev/shm tmpfs\n')
    expect(await boot(keys)).toBe(native)
    expect(await boot(['mount=true', 'mount.allowed=tmpfs'])).toBe(native)
    expect(machine.log.some(({ syscall }) => syscall === 'mount')).toBe(true)
  })

  test('runs by "run --systemd", and halts on SIGTERM', async () => {
    const results = join(machine.directory, 'results')
    mkdirSync(results)
    // It is not part of the boot that it waits for.
    const service = join(root, 'etc/systemd/system/report.service')
    const script = `${BOOTED.replace('echo "$state"', '')} { echo "$state"; stat -f -c "%n %T" /run /tmp; mkdir /sys/fs/cgroup/made && echo made; } > /results/state`
    writeFileSync(join(root, 'report.sh'), script)
    writeFileSync(service, '[Service]\nType=simple\nExecStart=/bin/sh /report.sh\n')
    const wants = join(root, 'etc/systemd/system/multi-user.target.wants')
    mkdirSync(wants, { recursive: true })
    symlinkSync('../report.service', join(wants, 'report.service'))
    chmodSync(machine.directory, 0o700)
    const bind = `${results}:/results:idmap`
    const run = machine.start(
      process.execPath,
      CLI,
      'run',
      '--systemd',
      '--rootfs',
      root,
      '--bind',
      bind,
      '--',
      '/sbin/init',
    )
    const ended = once(run, 'exit')
    const state = (): string => (existsSync(join(results, 'state')) ? readFileSync(join(results, 'state'), 'utf8') : '')
    await until('systemd has booted', () => state().endsWith('made\n'), 120)
    run.kill('SIGTERM')
    expect(await ended).toEqual([130, null])
    expect(state()).toBe('running\n/run tmpfs\n/tmp tmpfs\nmade\n')
  })
})
