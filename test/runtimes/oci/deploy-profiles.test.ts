import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { CLI } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

const folder = new URL('../../../deploy/kubernetes/', import.meta.url).pathname
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
      .replaceAll('/opt/intercede/bin/node /opt/intercede/bin/intercede.js', `${process.execPath} ${CLI}`)
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
