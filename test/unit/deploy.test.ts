import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { capsOf, OWN_SETS, steps } from '../../src/calls/steps.ts'
import { CONTAINERS, LISTENERS } from '../../src/link/limits.ts'
import { parseConfig } from '../../src/policy/config.ts'
import { capabilitiesFor } from '../../src/policy/ineffective.ts'
import { parseAssignment } from '../../src/policy/key-value-lines.ts'
import { parsePolicy } from '../../src/policy/settings.ts'
import { WRITTEN } from '../../src/runtimes/known/kubernetes.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const folder = join(root, 'deploy/kubernetes')
const scratch = mkdtempSync(join(tmpdir(), 'intercede-deploy-'))
afterAll(() => rmSync(scratch, { recursive: true }))

interface Resource {
  readonly apiVersion: string
  readonly kind: string
}
const read = <T = Resource>(name: string): T => parse(readFileSync(join(folder, name), 'utf8')) as T
const examples = readdirSync(join(folder, 'examples')).map((name) => `examples/${name}`)
const kustomization = read<{ readonly resources: readonly string[] } & Resource>('kustomization.yaml')

/**
 * The API's own schema as types: a literal of one may have no field that the schema lacks, and must have all that it
 * requires. Sections of a Pod are checked in depth, which a validator that takes unknown fields would not do.
 */
function complaints(name: string, resource: Resource): string {
  const file = join(scratch, `${name.replaceAll(/\W/g, '-')}.ts`)
  const { apiVersion, kind } = resource
  const from = `kubernetes-types/${apiVersion.includes('/') ? apiVersion : `core/${apiVersion}`}`
  writeFileSync(
    file,
    `import type { ${kind} } from '${from}'\nexport const it: ${kind} = ${JSON.stringify(resource, null, 1)}\n`,
  )
  if (!existsSync(join(scratch, 'node_modules'))) symlinkSync(join(root, 'node_modules'), join(scratch, 'node_modules'))
  const options = ['--noEmit', '--strict', '--ignoreConfig', '--module', 'nodenext', '--types', '']
  const { stdout, error } = spawnSync(join(root, 'node_modules/.bin/tsc'), [...options, file], { encoding: 'utf8' })
  if (error) throw error
  return stdout
}

test.each([...kustomization.resources, ...examples])(
  "deploy/kubernetes/%s is what the API's schema says",
  { timeout: 60_000 },
  (name) => {
    expect(complaints(name, read(name))).toBe('')
  },
)

test('the check finds a field that does not exist, one of the wrong type, and one that is missing', {
  timeout: 60_000,
}, () => {
  const pod = read<{ readonly spec: object } & Resource>('examples/mknod.yaml')
  const withSpec = (change: object) => ({ ...pod, spec: { ...pod.spec, ...change } })
  expect(complaints('unknown', withSpec({ hostUserz: false }))).toContain('hostUserz')
  expect(complaints('type', withSpec({ hostUsers: 'no' }))).toContain('not assignable')
  expect(complaints('missing', withSpec({ containers: [{ image: 'x' }] }))).toContain("'name' is missing")
})

interface Configuration {
  readonly data: { readonly 'config.yaml': string; readonly profiles: string }
}
const configuration = read<Configuration>('configuration.yaml').data
const profiles = new Map(
  configuration.profiles
    .trim()
    .split('\n')
    .map((line) => [line.split(' ')[0]!, line.split(' ').slice(1)] as const),
)

test("the daemon's configuration is one, and gives annotations nothing", () => {
  const { annotations } = parseConfig(configuration['config.yaml'], 'config.yaml')
  expect(annotations).toEqual({ profiles: new Set(), raise: new Set() })
})

interface Pod {
  readonly spec: {
    readonly hostUsers: boolean
    readonly containers: readonly {
      readonly securityContext: {
        readonly capabilities?: { readonly add: readonly string[] }
        readonly seccompProfile: object
      }
    }[]
  }
}

test('there is one example for each profile, with what its keys need and no more', () => {
  expect(examples).toEqual([...profiles.keys()].map((name) => `examples/${name}.yaml`).sort())
  for (const [name, keys] of profiles) {
    const { hostUsers, containers } = read<Pod>(`examples/${name}.yaml`).spec
    const [{ securityContext }] = containers as [Pod['spec']['containers'][0]]
    expect({ hostUsers, ...securityContext, capabilities: securityContext.capabilities?.add ?? [] }).toEqual({
      hostUsers: false,
      capabilities: capabilitiesFor(parsePolicy(keys.map((key) => parseAssignment(key)))),
      seccompProfile: { type: 'Localhost', localhostProfile: `intercede/${name}.json` },
    })
  }
})

test('the code knows the profiles of the ConfigMap', () => {
  expect(WRITTEN).toEqual(new Map([...profiles].map(([name, keys]) => [keys.join(' '), name])))
})

describe('docs/runtimes/kubernetes.md', () => {
  const page = readFileSync(join(root, 'docs/runtimes/kubernetes.md'), 'utf8').replaceAll(/ *\n */g, ' ')

  test('shows no setting of CRI-O, which refuses names in allowed_annotations that are not its own', () => {
    expect(page).not.toMatch(/allowed_annotations = /)
  })
})

test('the DaemonSet needs no rights at the API server', () => {
  const kinds = kustomization.resources.map((name) => read(name).kind)
  expect(kinds).toEqual(['Namespace', 'ConfigMap', 'DaemonSet'])
})

test('the unit lets the service have every capability that a step declares', () => {
  const unit = readFileSync(join(root, 'deploy/systemd/intercede.service'), 'utf8')
  const bounding = [...unit.matchAll(/^CapabilityBoundingSet=(.*)$/gm)].flatMap(([, caps]) => caps!.split(' '))
  const declared = Object.values(steps).flatMap((step) => capsOf(step, OWN_SETS - 1))
  expect(declared.length).toBeGreaterThan(20)
  expect(declared.filter((cap) => !bounding.includes(`CAP_${cap}`))).toEqual([])
})

test('the unit tries again and is hardened as docs/guide/service.md says', () => {
  const unit = readFileSync(join(root, 'deploy/systemd/intercede.service'), 'utf8')
  for (const line of ['Restart=always', 'RestartMaxDelaySec=10s', 'IPAddressDeny=any', 'LimitCORE=0', 'UMask=0077'])
    expect(unit).toContain(`\n${line}\n`)
  // A mount namespace of its own, a filter of calls, a rule for devices.
  expect(unit).not.toMatch(/^(Private|Protect|ReadOnly|Inaccessible|SystemCall|Device|Restrict)\w*=/m)
})

test('the page on the service has the fixed limits', () => {
  const page = readFileSync(join(root, 'docs/guide/service.md'), 'utf8')
  const english = (count: number): string => count.toLocaleString('en-US')
  expect(page).toContain(`at most ${english(CONTAINERS)} containers and ${english(LISTENERS)}\nlisteners in all`)
})

test('a reload writes to the journal what changed, not the whole configuration that the check prints', () => {
  const unit = readFileSync(join(root, 'deploy/systemd/intercede.service'), 'utf8')
  expect(unit).toMatch(/^ExecReload=.* --check-config$/m)
  expect(unit).toMatch(/^StandardOutput=null$/m)
  // Else it would be that of standard output.
  expect(unit).toMatch(/^StandardError=journal$/m)
})
