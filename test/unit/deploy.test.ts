import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { capsOf, OWN_SETS, steps } from '../../src/calls/steps.ts'
import { CONTAINERS, LISTENERS } from '../../src/link/limits.ts'
import { parseConfig } from '../../src/policy/config.ts'
import { capabilitiesFor } from '../../src/policy/ineffective.ts'
import { parseAssignment } from '../../src/policy/key-value-lines.ts'
import { parsePolicy } from '../../src/policy/settings.ts'
import { lxcfsFiles } from '../../src/runtimes/flags.ts'
import { WRITTEN } from '../../src/runtimes/known/kubernetes.ts'
import { withReason } from '../support/skipped.ts'

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

const RUNTIME_CLASS = 'lxcfs/runtime-class.yaml'
const POLICY = 'namespaces/policy.yaml'

const pod = read<{ readonly spec: object } & Resource>('examples/mknod.yaml')
const podWith = (change: object) => ({ ...pod, spec: { ...pod.spec, ...change } })
const WRONG = {
  'a field that does not exist': { resource: podWith({ hostUserz: false }), said: 'hostUserz' },
  'a field of the wrong type': { resource: podWith({ hostUsers: 'no' }), said: 'not assignable' },
  'a field that is missing': { resource: podWith({ containers: [{ image: 'x' }] }), said: "'name' is missing" },
}

const lacksKubectl = spawnSync('kubectl', ['version', '--client']).error
  ? 'the Debian package kubernetes-client is missing'
  : undefined
const HELM = '/usr/local/share/intercede-tests/helm'
const lacksHelm =
  lacksKubectl ?? (existsSync(HELM) ? undefined : `there is no ${HELM}, as scripts/setup.sh installs it on x86_64`)
const COMPONENTS = ['cri-o', 'nri', 'namespaces', 'prometheus', 'lxcfs']
/** Each, and all. */
const CHOICES: readonly (readonly string[])[] = [...COMPONENTS.map((name) => [name]), COMPONENTS]
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`

/** Returns what kustomize makes of a kustomization of the user's own, with these components. */
function rendered(components: readonly string[]): readonly Rendered[] {
  const directory = mkdtempSync(join(scratch, 'own-'))
  const base = relative(directory, folder)
  const images = [{ name: 'registry.example/intercede', newName: 'registry.test/intercede', digest: DIGEST }]
  const own = { resources: [base], components: components.map((name) => join(base, name)), images }
  writeFileSync(join(directory, 'kustomization.yaml'), JSON.stringify(own))
  return kustomized(directory)
}

function kustomized(directory: string): readonly Rendered[] {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', directory], { encoding: 'utf8' })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return parseAllDocuments(stdout).map((each) => each.toJS() as Rendered)
}

/** What kubernetes-types 1.30 leaves out of the schema. */
const MISSING: Readonly<Record<string, string>> = {
  ValidatingAdmissionPolicy: 'interface NamedRuleWithOperations { resources?: readonly string[] }',
}

/**
 * The API's own schema as types: a literal of one may have no field that the schema lacks, and must have all that it
 * requires. Sections of a Pod are checked in depth, which a validator that takes unknown fields would not do.
 *
 * @returns what the compiler says of each, asked once for all
 */
function complaints(resources: Readonly<Record<string, Resource>>): ReadonlyMap<string, string> {
  symlinkSync(join(root, 'node_modules'), join(scratch, 'node_modules'))
  const files = new Map(Object.keys(resources).map((name) => [`${name.replaceAll(/\W/g, '-')}.ts`, name]))
  for (const [file, name] of files) {
    const { apiVersion, kind } = resources[name]!
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['core', apiVersion]
    const from = `kubernetes-types/${group!.replace('.k8s.io', '')}/${version}`
    const text = `export const it: ${kind} = ${JSON.stringify(resources[name], null, 1)}`
    const more = kind in MISSING ? `declare module '${from}' { ${MISSING[kind]} }\n` : ''
    writeFileSync(join(scratch, file), `import type { ${kind} } from '${from}'\n${more}${text}\n`)
  }
  const options = ['--noEmit', '--strict', '--ignoreConfig', '--pretty', 'false', '--module', 'nodenext', '--types', '']
  const tsc = join(root, 'node_modules/.bin/tsc')
  const { stdout, error } = spawnSync(tsc, [...options, ...files.keys()], { cwd: scratch, encoding: 'utf8' })
  if (error) throw error
  const said = stdout.split(/^(?=\S)/m)
  const of = (file: string): string => said.filter((text) => text.startsWith(`${file}(`)).join('')
  expect(said.filter((text) => text !== '' && !files.has(text.replace(/\([\s\S]*/, '')))).toEqual([])
  return new Map([...files].map(([file, name]) => [name, of(file)]))
}

interface Rendered extends Resource {
  readonly metadata: { readonly name: string; readonly namespace?: string }
}
const named = <T>(all: readonly Rendered[], kind: string): T => all.find((each) => each.kind === kind) as T

test("deploy/kubernetes/ is what the API's schema says, and the check finds what is not", { timeout: 60_000 }, () => {
  const right = [...kustomization.resources, RUNTIME_CLASS, POLICY, ...examples].flatMap((name) =>
    parseAllDocuments(readFileSync(join(folder, name), 'utf8')).map((each, index): readonly [string, Resource] => [
      `${name} ${index}`,
      each.toJS() as Resource,
    ]),
  )
  // The operator's kind is not the API's.
  const made = lacksKubectl ? [] : rendered(COMPONENTS).filter(({ kind }) => kind !== 'PodMonitor')
  right.push(...made.map((resource) => [`rendered ${resource.kind}`, resource] as const))
  const wrong = Object.entries(WRONG).map(([name, { resource }]) => [name, resource] as const)
  const said = complaints(Object.fromEntries([...right, ...wrong]))
  for (const [name] of right) expect(said.get(name), name).toBe('')
  for (const [name, { said: part }] of Object.entries(WRONG)) expect(said.get(name)).toContain(part)
})

const KINDS = ['Namespace', 'ResourceQuota', 'ConfigMap', 'DaemonSet', 'NetworkPolicy']
const MORE = ['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding', 'PodMonitor', 'RuntimeClass']
/** Of no namespace: the API server refuses them with one. */
const CLUSTER = ['Namespace', 'ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding', 'RuntimeClass']

describe.skipIf(lacksKubectl)(withReason('kubectl kustomize', lacksKubectl), () => {
  const images = (all: readonly Rendered[]): readonly string[] => [
    ...new Set([...JSON.stringify(named(all, 'DaemonSet')).matchAll(/"image":"(.*?)"/g)].map(([, image]) => image!)),
  ]

  test('makes the five objects of deploy/kubernetes, with the image of its kustomization', () => {
    const all = kustomized(folder)
    expect(all.map(({ kind }) => kind).sort()).toEqual([...KINDS].sort())
    expect(images(all)).toEqual(['registry.example/intercede:0.1.0'])
  })

  test.each(CHOICES.map((components) => ({ components })))('adds $components', ({ components }) => {
    const all = rendered(components)
    expect(images(all)).toEqual([`registry.test/intercede@${DIGEST}`])
    for (const { kind, metadata } of all)
      expect(metadata.namespace, kind).toBe(CLUSTER.includes(kind) ? undefined : 'intercede')
    if (components.length > 1) expect(all.map(({ kind }) => kind).sort()).toEqual([...KINDS, ...MORE].sort())
  })

  test('cri-o and nri change the ConfigMap, whose daemon lets Pods name a profile that there is', () => {
    const { data } = named<Configuration>(rendered(['cri-o', 'nri']), 'ConfigMap')
    expect(data).toMatchObject({ base: 'cri-o', profiles: configuration.profiles })
    const { nri, profiles: known } = parseConfig(data['config.yaml'], 'config.yaml')
    expect(nri.socket).toBe('/run/nri/nri.sock')
    for (const name of [...nri.namespaces.values()].flat()) expect(known.has(name)).toBe(true)
    const page = readFileSync(join(root, 'docs/runtimes/kubernetes.md'), 'utf8')
    expect(page).toContain(data['config.yaml'].replace(/^log: .*\n/, '').trim())
  })

  test('prometheus opens one port to Prometheus, on a container without rights that is scraped as the alerts say', () => {
    const all = rendered(['prometheus'])
    const { spec } = named<{ readonly spec: { readonly template: { readonly spec: PodSpec } } }>(all, 'DaemonSet')
    const metrics = spec.template.spec.containers.find(({ name }) => name === 'metrics')!
    expect(metrics.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      seccompProfile: { type: 'RuntimeDefault' },
    })
    expect(metrics.command.join(' ')).toContain(` --listen $(ADDRESS):${metrics.ports[0]!.containerPort}`)
    const monitor = named<Monitor>(all, 'PodMonitor').spec
    expect(monitor).toMatchObject({
      selector: { matchLabels: { 'app.kubernetes.io/name': 'intercede' } },
      podMetricsEndpoints: [{ port: metrics.ports[0]!.name }],
    })
    const { template } = spec as unknown as { readonly template: { readonly metadata: { readonly labels: object } } }
    const { [monitor.jobLabel]: job } = template.metadata.labels as Readonly<Record<string, string>>
    expect(readFileSync(join(root, 'deploy/prometheus/intercede.rules.yml'), 'utf8')).toContain(`job="${job}"`)
    const { ingress } = named<{ readonly spec: { readonly ingress: readonly object[] } }>(all, 'NetworkPolicy').spec
    expect(ingress).toMatchObject([{ ports: [{ port: metrics.ports[0]!.name }] }])
  })
})

describe.skipIf(lacksHelm)(withReason('helm', lacksHelm), () => {
  const template = (...options: readonly string[]) =>
    spawnSync(HELM, ['template', 'intercede', folder, ...options], { encoding: 'utf8' })
  const sorted = (all: readonly Rendered[]): readonly Rendered[] =>
    [...all].sort((one, other) => one.kind.localeCompare(other.kind))

  test.each([[], ...CHOICES].map((components) => ({ components })))(
    'makes the same objects as kustomize with $components',
    ({ components }) => {
      const image = `image=registry.test/intercede@${DIGEST}`
      const { stdout, stderr } = template('--set', image, '--set-json', `components=${JSON.stringify(components)}`)
      expect(stderr).toBe('')
      const all = parseAllDocuments(stdout).map((each) => each.toJS() as Rendered)
      expect(sorted(all)).toEqual(sorted(rendered(components)))
    },
  )

  test('takes the keys of the ConfigMap, and no component that there is not', () => {
    const values = join(scratch, 'values.yaml')
    writeFileSync(values, JSON.stringify({ configuration: { base: 'cri-o', profiles: 'build mknod sysinfo\n' } }))
    const all = parseAllDocuments(template('--values', values).stdout).map((each) => each.toJS() as Rendered)
    const { data } = named<Configuration>(all, 'ConfigMap')
    expect(data).toEqual({ ...configuration, base: 'cri-o', profiles: 'build mknod sysinfo\n' })
    expect(template('--set', 'components={prometeus}').stderr).toContain('there is no component "prometeus": use cri-o')
  })
})

test('the chart and the image have the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }
  expect(read('Chart.yaml')).toMatchObject({ version })
  expect(read('values.yaml')).toMatchObject({ image: `registry.example/intercede:${version}` })
  expect(read('kustomization.yaml')).toMatchObject({ images: [{ newTag: version }] })
})

interface Container {
  readonly name: string
  readonly command: readonly string[]
  readonly securityContext?: { readonly privileged?: boolean; readonly seLinuxOptions?: { readonly type: string } }
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
  readonly volumeMounts?: readonly { readonly name: string }[]
}
interface PodSpec extends Pick<Container, 'securityContext'> {
  readonly priorityClassName: string
  readonly initContainers: readonly Container[]
  readonly containers: readonly Container[]
  readonly volumes: readonly { readonly name: string; readonly hostPath?: object }[]
}
interface DaemonSet extends Resource {
  readonly spec: { readonly template: { readonly spec: PodSpec } }
}
interface Quota extends Resource {
  readonly spec: { readonly scopeSelector: { readonly matchExpressions: readonly object[] } }
}
interface ProbedSpec {
  readonly containers: readonly {
    readonly readinessProbe: { readonly exec: { readonly command: readonly string[] } }
  }[]
}
interface Monitor {
  readonly spec: { readonly jobLabel: string }
}
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

/** What the Pod Security Standard "baseline" lets a container add, whatever user namespace it has. */
const BASELINE = [
  ...['AUDIT_WRITE', 'CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'SETFCAP'],
  ...['SETGID', 'SETPCAP', 'SETUID', 'SYS_CHROOT'],
]

test('docs/runtimes/kubernetes.md names the examples that baseline takes, and what the others add', () => {
  const page = readFileSync(join(root, 'docs/runtimes/kubernetes.md'), 'utf8').replaceAll(/ *\n */g, ' ')
  const [, meet, add] =
    /The examples for (.*?) meet the \*baseline\*.*? The others add (.*?), which baseline refuses/.exec(page)!
  const added = [...profiles.keys()].map((name) => {
    const [{ securityContext }] = read<Pod>(`examples/${name}.yaml`).spec.containers as [Pod['spec']['containers'][0]]
    return { name, beyond: (securityContext.capabilities?.add ?? []).filter((cap) => !BASELINE.includes(cap)) }
  })
  const good = added.filter(({ beyond }) => beyond.length === 0).map(({ name }) => `\`${name}\``)
  expect(meet!.split(' and ').sort()).toEqual(good.sort())
  expect(add!.split(' or ').sort()).toEqual([...new Set(added.flatMap(({ beyond }) => beyond))].sort())
})

test('the code knows the profiles of the ConfigMap', () => {
  expect(WRITTEN).toEqual(new Map([...profiles].map(([name, keys]) => [keys.join(' '), name])))
})

describe('docs/runtimes/kubernetes.md', () => {
  const page = readFileSync(join(root, 'docs/runtimes/kubernetes.md'), 'utf8').replaceAll(/ *\n */g, ' ')

  test('shows no setting of CRI-O, which refuses names in allowed_annotations that are not its own', () => {
    expect(page).not.toMatch(/allowed_annotations = /)
  })

  test('names the runtime of containerd that the class of the component asks for, with all files of lxcfs', () => {
    const { handler } = read<{ readonly handler: string } & Resource>(RUNTIME_CLASS)
    expect(page).toContain(`containerd.runtimes.${handler}]`)
    const overlay = read<typeof kustomization>('lxcfs/kustomization.yaml')
    expect(overlay.resources).toEqual(['runtime-class.yaml'])
    const names = /\("\/proc\/" \+ \((.*?)\), "(\/sys\S+)"\)/.exec(page)!
    const files = [...names[1]!.split(', ').map((name) => `/proc/${JSON.parse(name)}`), names[2]]
    expect(files).toEqual(lxcfsFiles('lxcfs /l fuse.lxcfs rw\n')!.map(({ target }) => target))
  })
})

test('a probe of the DaemonSet looks where configure.sh says that it has worked', () => {
  const { spec } = read<{ readonly spec: { readonly template: { readonly spec: ProbedSpec } } }>('daemonset.yaml')
  const probes = spec.template.spec.containers.map(({ readinessProbe }) => readinessProbe.exec.command)
  expect(readFileSync(join(folder, 'configure.sh'), 'utf8')).toContain(`{READY-${probes[1]!.at(-1)}}`)
  expect(probes[0]!.slice(-4)).toEqual(['/opt/intercede/bin/intercede', 'status', '--format', '{engine}'])
})

test('containers of the DaemonSet reach directories of the node where SELinux is on', () => {
  const { spec } = read<DaemonSet>('daemonset.yaml').spec.template
  const node = spec.volumes.filter(({ hostPath }) => hostPath).map(({ name }) => name)
  const more = read<DaemonSet>('prometheus/daemonset.yaml').spec.template.spec.containers
  const all = [...spec.initContainers, ...spec.containers, ...more]
  const mounting = all.filter(({ volumeMounts }) => volumeMounts?.some(({ name }) => node.includes(name)))
  expect(mounting.length).toBeGreaterThan(3)
  for (const { name, securityContext } of mounting) {
    const { privileged, seLinuxOptions } = { ...spec.securityContext, ...securityContext }
    expect(privileged || seLinuxOptions?.type === 'spc_t', name).toBe(true)
  }
})

test('a quota of the namespace is about the priority of the DaemonSet, and Windows gets no Pod', () => {
  const { spec } = read<DaemonSet>('daemonset.yaml').spec.template
  expect(spec).toMatchObject({ nodeSelector: { 'kubernetes.io/os': 'linux' } })
  expect(read<Quota>('quota.yaml').spec.scopeSelector.matchExpressions).toEqual([
    { scopeName: 'PriorityClass', operator: 'In', values: [spec.priorityClassName] },
  ])
})

test('the DaemonSet needs no rights at the API server', () => {
  const kinds = kustomization.resources.map((name) => read(name).kind)
  expect([...kinds].sort()).toEqual([...KINDS].sort())
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

test('README says from which systemd on the unit reloads; a node of Kubernetes may have an older one', () => {
  expect(readFileSync(join(root, 'deploy/systemd/intercede.service'), 'utf8')).toMatch(/^Type=notify-reload$/m)
  expect(readFileSync(join(root, 'README.md'), 'utf8')).toContain('systemd 253')
  expect(readFileSync(join(folder, 'node.sh'), 'utf8')).not.toContain('systemctl reload')
})

test('the page on the service has the fixed limits', () => {
  const page = readFileSync(join(root, 'docs/guide/service.md'), 'utf8').replaceAll(/\s+/g, ' ')
  const english = (count: number): string => count.toLocaleString('en-US')
  expect(page).toContain(`at most ${english(CONTAINERS)} containers and ${english(LISTENERS)} listeners in all`)
})

test('a reload writes to the journal what changed, not the whole configuration that the check prints', () => {
  const unit = readFileSync(join(root, 'deploy/systemd/intercede.service'), 'utf8')
  // Without --config: like every command, the service then takes an absent file for an empty one.
  expect(unit).toMatch(/^ExecStart=\S+ serve$/m)
  expect(unit).toMatch(/^ExecReload=\S+ serve --check-config$/m)
  expect(unit).toMatch(/^StandardOutput=null$/m)
  // Else it would be that of standard output.
  expect(unit).toMatch(/^StandardError=journal$/m)
})
