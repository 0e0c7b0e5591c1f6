import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { keyNames } from '../../../src/policy/keys.ts'
import { type Done, execute } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { byUser } from '../../support/user.ts'

const directory = mkdtempSync(join(tmpdir(), 'intercede-bad-'))
afterAll(() => rmSync(directory, { recursive: true }))

const KEY = 'security.syscalls.intercept'
const intercede = (...args: readonly string[]): Promise<Done> => execute(process.execPath, [CLI, ...args])
const file = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text)
  return join(directory, name)
}
describe('what a configuration means on this machine, and what is missing there', () => {
  test.each([
    { name: 'run', args: ['run', 'true'] },
    { name: 'profile', args: ['profile'] },
    { name: 'flags', args: ['flags', 'kubernetes'] },
    { name: 'serve', args: ['serve', '--check-config', '--config'] },
  ])('$name says which values mean nothing on this machine now', async ({ name, args: [command, ...rest] }) => {
    const values = ['mount=true', 'mount.allowed=nosuchfs', 'mknod=true', 'mknod.devices=c:509:7']
    const lines = values.map((value) => `  ${KEY}.${value.replace('=', ': ')}\n`).join('')
    const keys = values.flatMap((value) => ['-c', value])
    const given = name === 'serve' ? [...rest, file('unknown.yaml', `default:\n${lines}`)] : [...keys, ...rest]
    const { status, stdout, stderr } = await intercede(command!, ...given)
    expect(status, stderr).toBe(0)
    expect(stdout + stderr).toContain('this kernel does not know the file system "nosuchfs"')
    expect(stdout + stderr).toContain('no driver has c:509:7 now')
  })

  test('serve --check-config says every effective key of each profile, with its origin', async () => {
    const text = `default: { ${KEY}.mknod: true }\nprofiles: { vpn: { mknod.devices: 'c:10:200' } }\nannotations: { profiles: [vpn] }\n`
    const { status, stdout, stderr } = await intercede('serve', '--check-config', '--config', file('good.yaml', text))
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const [, usual, vpn] = stdout.split(/^(?:default|profile "vpn"):$/m)
    for (const part of [usual, vpn]) {
      expect(part).toContain(`  ${KEY}.mknod: "true" # configuration\n`)
      expect(part?.match(new RegExp(`^  ${KEY}`, 'gm'))).toHaveLength(keyNames.length)
    }
    expect(usual).toContain(`  ${KEY}.mknod.devices: "" # default\n`)
    expect(usual).toContain('  # served where the filter of a container traps: mknod, mknodat\n')
    expect(vpn).toContain(`  ${KEY}.mknod.devices: "c:10:200" # profile vpn\n`)
    expect(vpn).toMatch(/^annotations may choose the profiles: vpn$/m)
    expect(vpn).toMatch(/^reload: auto$/m)
  })

  test.each(['--since 1h', '--feed /x', '--history /x'])(
    'explain --if does nothing with %s, and says so',
    async (more) => {
      const words = ['explain', '--if', 'mknod("n", S_IFIFO|0666, 0)', ...more.split(' ')]
      expect(await execute(process.execPath, [CLI, ...words])).toMatchObject({
        ...{
          status: 2,
          stdout: '',
          stderr: expect.stringMatching(/^intercede: Cannot use --\w+ with --if: nothing is read/),
        },
      })
    },
  )

  test('explain --if holds keys under their ceilings, and says which to raise', async () => {
    const config = file(
      'ceilings.yaml',
      'ceiling: { mknod.devices: c:10:200, mount: false }\nprofiles: { p: { mount: true, mount.allowed: tmpfs } }\n',
    )
    const ask = async (call: string, ...options: readonly string[]): Promise<string> =>
      (await execute(process.execPath, [CLI, 'explain', '--daemon-config', config, '--if', call, ...options])).stdout
    const tun = 'mknod("x", S_IFCHR|0600, 10:241)'
    const raise = 'raise the ceiling of mknod.devices in the configuration: "c:10:200" is below "c:10:241"'
    expect(await ask(tun, '-c', 'mknod')).toContain(`  what to do:  ${raise}; then if it is harmless, add c:10:241 to `)
    const asked = await ask(tun, '-c', 'mknod', '-c', 'mknod.devices=c:10:241')
    expect(asked).toContain(`  left to the kernel [deviceNotAllowed]\n`)
    expect(asked).toContain(`  what to do:  ${raise}\n`)
    expect(await ask('mount("none", "/mnt", "tmpfs", 0, "")', '--profile', 'p')).toContain(
      '  what to do:  raise the ceiling of mount in the configuration: "false" is below "true"\n',
    )
    expect(await ask('mknod("x", S_IFCHR|0600, 10:200)', '-c', 'mknod', '-c', 'mknod.devices=c:10:200')).toContain(
      '  done ',
    )
  })

  test('serve --check-config says which keys the filters of this machine trap', async () => {
    const config = file('traps.yaml', 'default: { sysinfo: true }\nprofiles: { vpn: { setxattr: true } }\n')
    const profile = (name: string, metadata: string): string => {
      const rules = [{ names: ['mknod', 'mknodat', 'setxattr'], action: 'SCMP_ACT_NOTIFY' }]
      const listener = metadata.startsWith('profile=vpn') ? { listenerPath: '/run/other.sock' } : {}
      const text = { defaultAction: 'SCMP_ACT_ALLOW', ...listener, listenerMetadata: metadata, syscalls: rules }
      return file(name, JSON.stringify(text))
    }
    const names = ['a', 'b', 'c'].map((name, index) =>
      profile(`${name}.json`, [`${KEY}.mknod=true`, 'profile=vpn', 'profile=none'][index]!),
    )
    const copy = 'mkdir -p /etc/intercede && mount -t tmpfs none /etc/intercede && cp "$1" "$2" "$3" /etc/intercede'
    const script = [`${copy} && shift 3 && exec "$@"`, 'sh', ...names]
    const check = [process.execPath, CLI, 'serve', '--check-config', '--config', config]
    const within = ['--mount', 'sh', '-c', OVER_ETC, 'sh', directory, 'root:1:1', 'sh', '-c', ...script]
    const { stdout } = await execute('unshare', [...within, ...check])
    expect(stdout).toContain(
      `filter "/etc/intercede/a.json":
  # ${KEY}.mknod (metadata): trapped
  # ${KEY}.sysinfo (configuration): not trapped: sysinfo
filter "/etc/intercede/b.json":
  # of the daemon at "/run/other.sock"
  # ${KEY}.setxattr (profile vpn): not trapped: lsetxattr, fsetxattr, setxattrat
  # ${KEY}.sysinfo (configuration): not trapped: sysinfo
filter "/etc/intercede/c.json":
  # Cannot read policy: unknown profile "none" at line 1 of the container's metadata
`,
    )
  })

  test('serve --check-config says on which condition an option of the configuration is of use', async () => {
    const config = file('idle.yaml', "default: { mknod.devices: 'c:10:229' }\n")
    const { stdout } = await intercede('serve', '--check-config', '--config', config)
    expect(stdout).toContain(
      '  # mknod.devices does nothing without mknod=true, which only the metadata of a container can say here\n',
    )
  })

  test.each(['run', 'serve'])('%s by somebody who is not root', async (command) => {
    const args = command === 'run' ? ['run', '-c', 'mknod', 'true'] : ['serve', '--socket', join(directory, 's')]
    const done = await execute('unshare', byUser(...args))
    expect(done.status).toBe(125)
    expect(done.stderr).toMatch(/root/)
  })

  test('run without a runtime names the command that installs one', async () => {
    const hide =
      'mount --make-rprivate / && mount --bind /etc/passwd /usr/bin/crun && mount --bind /etc/passwd /usr/sbin/runc && exec "$@"'
    const done = await execute('unshare', ['--mount', 'sh', '-c', hide, 'sh', process.execPath, CLI, 'run', 'true'])
    expect(done.status).toBe(125)
    expect(done.stderr).toMatch(/apt-get install.* crun/)
  })

  test('run with --memory where no hierarchy limits it says what to do', async () => {
    // A tmpfs hides the hierarchies of v1, and cgroup v2 does not have what they have.
    const hide =
      'mount --make-rprivate / && mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    const words = ['--mount', 'sh', '-c', hide, 'sh', process.execPath, CLI, 'run', '--memory', '64m', 'true']
    const { status, stderr } = await execute('unshare', words)
    // Where cgroup v2 has the controller the limit holds.
    if (status !== 0)
      expect({ status, stderr }).toMatchObject({
        status: 125,
        stderr: expect.stringMatching(/; leave out --memory, or remove cgroup_disable=memory /),
      })
  })

  test('run with a range of ids that is too small', async () => {
    const done = await execute('unshare', [
      '--mount',
      'sh',
      '-c',
      OVER_ETC,
      'sh',
      directory,
      'intercede:1000000:100',
      process.execPath,
      CLI,
      'run',
      'true',
    ])
    expect(done.status).toBe(125)
    expect(done.stderr).toMatch(/subuid/)
  })
})

/** Another /etc/subuid, in a mount namespace of its own. */
const OVER_ETC = `set -e
mount --make-rprivate /
mkdir -p "$1/etc" && mount -t tmpfs none "$1/etc" && mkdir "$1/etc/upper" "$1/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work" none /etc
printf '%s\\n' "$2" >/etc/subuid && printf '%s\\n' "$2" >/etc/subgid
shift 2 && exec "$@"`
