import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { CLI } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const folder = fileURLToPath(new URL('../../../deploy/kubernetes/', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'intercede-profiles-'))
afterAll(() => rmSync(scratch, { recursive: true }))

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly initContainers: readonly { readonly name: string; readonly command: readonly string[] }[]
      }
    }
  }
}
const read = <T>(name: string): T => parse(readFileSync(join(folder, name), 'utf8')) as T

const noProfile = existsSync('/usr/share/containers/seccomp.json') ? undefined : 'not installed: podman'
test.skipIf(noProfile)(
  withReason('the installer of the DaemonSet writes a good profile for each line of the ConfigMap', noProfile),
  () => {
    const { initContainers } = read<DaemonSet>('daemonset.yaml').spec.template.spec
    const [shell, flag, script] = initContainers.find(({ name }) => name === 'profiles')!.command
    const { data } = read<{ readonly data: Readonly<Record<string, string>> }>('configuration.yaml')
    for (const name of ['configuration', 'host/profiles', 'host/etc/intercede'])
      mkdirSync(join(scratch, name), { recursive: true })
    for (const [name, text] of Object.entries(data)) writeFileSync(join(scratch, 'configuration', name), text)
    const here = script!
      .replaceAll('/opt/intercede/bin/intercede', `"${process.execPath}" "${CLI}"`)
      .replaceAll(/ <?(?=\/(host|configuration)\/)/g, (before) => `${before}${scratch}`)
    const { status, stderr } = spawnSync(shell!, [flag!, here], { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
    const names = data
      .profiles!.trim()
      .split('\n')
      .map((line) => `${line.split(' ')[0]}.json`)
    expect(readdirSync(join(scratch, 'host/profiles')).sort()).toEqual(names.sort())
    for (const name of names) {
      const file = join(scratch, 'host/profiles', name)
      expect(spawnSync(process.execPath, [CLI, 'profile', '--check', file], { encoding: 'utf8' })).toMatchObject({
        status: 0,
      })
      expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
        defaultAction: 'SCMP_ACT_ERRNO',
        listenerPath: '/run/intercede/oci.sock',
      })
    }
    expect(readFileSync(join(scratch, 'host/etc/intercede/config.yaml'), 'utf8')).toBe(data['config.yaml'])
  },
)

const profiles = new Map(
  read<{ readonly data: { readonly profiles: string } }>('configuration.yaml')
    .data.profiles.trim()
    .split('\n')
    .map((line) => [line.split(' ')[0]!, line.split(' ').slice(1)] as const),
)

const flags = (keys: readonly string[]): { readonly stdout: string; readonly stderr: string } =>
  spawnSync(process.execPath, [CLI, 'flags', 'kubernetes', ...keys.flatMap((key) => ['-c', key])], { encoding: 'utf8' })

test.each([...profiles])(
  'flags kubernetes names the profile %s that the DaemonSet writes from these keys',
  (name, keys) => {
    const { stdout, stderr } = flags(keys)
    expect(stdout).toContain(`localhostProfile: "intercede/${name}.json"`)
    const besides =
      name === 'sysinfo'
        ? 'intercede: free and top will show the node, except in the runtime class of deploy/kubernetes/lxcfs\n'
        : ''
    expect(stderr).toBe(
      `intercede: every node must have the profile as /var/lib/kubelet/seccomp/intercede/${name}.json: the DaemonSet of deploy/kubernetes/ puts it there\n${besides}`,
    )
  },
)

test.each([
  ['mknod', 'sysinfo'],
  ['mount', 'mount.allowed=xfs'],
  ['mknod', 'mknod.devices=c:10:200'],
])('flags kubernetes of %s and %s names the line of the ConfigMap that is missing', (...keys) => {
  const { stdout, stderr } = flags(keys)
  const [, name] = /localhostProfile: "intercede\/(\S+)\.json"/.exec(stdout)!
  expect([...profiles.keys()]).not.toContain(name)
  expect(stderr).toContain(
    `add the line "${name} ${keys.join(' ')}" to the profiles in deploy/kubernetes/configuration.yaml`,
  )
  expect(stderr).not.toMatch(/in place of|add --write/)
})

test('docs/runtimes/kubernetes.md shows the fields that flags kubernetes prints', () => {
  const page = readFileSync(join(folder, '../../docs/runtimes/kubernetes.md'), 'utf8')
  expect(page).toContain(`\`\`\`yaml\n${flags(['mknod']).stdout}\`\`\`\n`)
})
