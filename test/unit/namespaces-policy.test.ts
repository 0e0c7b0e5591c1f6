import { readFileSync } from 'node:fs'
import { type CelInput, celEnv, isCelError, parse, plan } from '@bufbuild/cel'
import { strings } from '@bufbuild/cel/ext'
import { describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'

interface Policy {
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly matchConstraints?: object
    readonly policyName?: string
    readonly variables: readonly { readonly name: string; readonly expression: string }[]
    readonly validations: readonly { readonly expression: string; readonly message: string }[]
  }
}
const file = new URL('../../deploy/kubernetes/namespaces/policy.yaml', import.meta.url)
const [policy, binding] = parseAllDocuments(readFileSync(file, 'utf8')).map((each) => each.toJS() as Policy)

const env = celEnv({ funcs: strings })
const { variables, validations } = policy!.spec
const expressions = [...variables, ...validations].map(({ expression }) => expression)
const plans = new Map(expressions.map((expression) => [expression, plan(env, parse(expression))]))

/** Evaluates an expression of the policy as the API server does, where an error refuses too (failurePolicy). */
function evaluated(expression: string, values: Record<string, CelInput>) {
  const result = plans.get(expression)!(values)
  if (isCelError(result)) throw result
  return result
}

interface Pod {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: object
}
interface Namespace {
  readonly metadata: { readonly labels?: Readonly<Record<string, string>> }
}

/** Returns what the policy says against a Pod. @param oldObject null for a new Pod */
function refusals(namespaceObject: Namespace, object: Pod, oldObject: Pod | null = null): readonly string[] {
  // JSON has no undefined.
  const values = JSON.parse(JSON.stringify({ namespaceObject, object, oldObject })) as Record<string, CelInput>
  const known: Record<string, CelInput> = {}
  for (const { name, expression } of variables)
    known[name] = evaluated(expression, { ...values, variables: new Map(Object.entries(known)) }) as CelInput
  const all = { ...values, variables: new Map(Object.entries(known)) }
  return validations.filter(({ expression }) => evaluated(expression, all) !== true).map(({ message }) => message)
}

const FILE = 'localhostProfile: intercede/NAME.json takes the label profiles.intercede.io/NAME: "true" of the namespace'
const NAME = 'intercede.io/profile: NAME takes the label profiles.intercede.io/NAME: "true" of the namespace'
const REQUIRED = `intercede.io/profile takes the annotation required-plugins.noderesource.dev: '["intercede"]' too`
const CONTAINER = 'NAME.container.intercede.io/profile takes a container NAME of the Pod'
const required = { 'required-plugins.noderesource.dev': '["intercede"]' }

const namespace = (labels?: Readonly<Record<string, string>>): Namespace => ({ metadata: labels ? { labels } : {} })
const apps = namespace({
  'kubernetes.io/metadata.name': 'apps',
  'profiles.intercede.io/mknod': 'true',
  'profiles.intercede.io/sys.info': 'true',
  'profiles.intercede.io/bpf': 'false',
})
const localhost = (localhostProfile: string) => ({
  securityContext: { seccompProfile: { type: 'Localhost', localhostProfile } },
})
const pod = (spec: object, annotations?: Readonly<Record<string, string>>): Pod => ({
  metadata: annotations ? { annotations } : {},
  spec: { containers: [{ name: 'web' }], ...spec },
})
const annotated = (annotations: Readonly<Record<string, string>>): Pod => pod({}, annotations)
const WHERE = {
  'the Pod': localhost,
  'a container': (path: string) => ({ containers: [{ name: 'web' }, { name: 'db', ...localhost(path) }] }),
  'an init container': (path: string) => ({
    initContainers: [
      { name: 'first', securityContext: {} },
      { name: 'next', ...localhost(path) },
    ],
  }),
  'an ephemeral container': (path: string) => ({ ephemeralContainers: [{ name: 'debug', ...localhost(path) }] }),
}

test('the policy is asked for whatever sets these fields, and its binding makes it refuse', () => {
  const resources = ['pods', 'pods/ephemeralcontainers']
  const rule = { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE', 'UPDATE'], resources }
  expect(policy!.spec).toMatchObject({ failurePolicy: 'Fail', matchConstraints: { resourceRules: [rule] } })
  expect(binding!.spec).toEqual({ policyName: policy!.metadata.name, validationActions: ['Deny'] })
})

describe.each(Object.entries(WHERE))('a profile of %s', (_, specOf) => {
  test.each(['intercede/mknod.json', 'intercede/sys.info.json', 'other/mknod.json', 'operator/intercede.json'])(
    '%s is allowed',
    (path) => expect(refusals(apps, pod(specOf(path)))).toEqual([]),
  )

  test.each([
    'intercede/bpf.json', // The label says false.
    'intercede/mount.json',
    'intercede/mknod', // No such file, but a node may have one.
    'intercede/mknodXjson',
    'intercede/.json',
    'intercede/',
    'intercede',
    'intercede/mknod.json/',
    'intercede/mknod.json\n',
    './intercede/bpf.json',
    'intercede//bpf.json',
    'intercede/./bpf.json',
    './/.//intercede/mknod.json',
    'other/../intercede/bpf.json',
    'intercede/mknod.json/../bpf.json',
    'intercede/sub/mknod.json',
    'intercede/profiles.intercede.io/mknod.json',
    '/var/lib/kubelet/seccomp/intercede/bpf.json',
  ])('%j is refused', (path) => expect(refusals(apps, pod(specOf(path)))).toEqual([FILE]))

  test.each([{}, undefined, { 'intercede.io/mknod': 'true', mknod: 'true' }])(
    'is refused in a namespace with the labels %o',
    (labels) => expect(refusals(namespace(labels), pod(specOf('intercede/mknod.json')))).toEqual([FILE]),
  )
})

test.each([
  {},
  { securityContext: {} },
  { securityContext: { seccompProfile: { type: 'RuntimeDefault' } } },
  { initContainers: [], ephemeralContainers: [] },
])('a Pod without a profile of ours is allowed everywhere: %o', (spec) => {
  for (const labels of [undefined, {}]) expect(refusals(namespace(labels), pod(spec))).toEqual([])
})

test('a profile that the runtime passes on is one that the namespace may name, too', () => {
  const chosen = (name: string): Pod => annotated({ 'security.syscalls.intercept.profile': name })
  expect(refusals(apps, chosen('mknod'))).toEqual([])
  expect(refusals(apps, chosen('wide'))).toEqual([
    `security.syscalls.intercept.profile${NAME.slice('intercede.io/profile'.length)}`,
  ])
  // What a Pod has, it keeps, so that it can be changed otherwise.
  expect(refusals(apps, chosen('wide'), chosen('wide'))).toEqual([])
})

describe('annotations', () => {
  test.each([
    { 'intercede.io/profile': 'mknod' },
    { 'web.container.intercede.io/profile': 'mknod', 'intercede.io/profile': 'sys.info' },
  ])('%o are allowed, and take that of containerd', (annotations) => {
    expect(refusals(apps, annotated({ ...annotations, ...required }))).toEqual([])
    expect(refusals(apps, annotated(annotations))).toEqual([REQUIRED])
    for (const plugins of ['', '[]', '["other"]', '["intercede2"]', 'intercede'])
      expect(
        refusals(apps, annotated({ ...annotations, 'required-plugins.noderesource.dev': plugins })),
        plugins,
      ).toEqual([REQUIRED])
    const two = { 'required-plugins.noderesource.dev': '["other", "intercede"]' }
    expect(refusals(apps, annotated({ ...annotations, ...two }))).toEqual([])
  })

  test.each([
    { 'intercede.io/profile': 'bpf' },
    { 'intercede.io/profile': '' },
    { 'intercede.io/profile': ' mknod' },
    { 'intercede.io/profile': 'mknod\n' },
    { 'intercede.io/profile': 'MKNOD' },
    { 'intercede.io/profile': 'profiles.intercede.io/mknod' },
    { 'intercede.io/profile': 'mknod', 'web.container.intercede.io/profile': 'mount' },
  ])('%o are refused', (annotations) => {
    expect(refusals(apps, annotated({ ...annotations, ...required }))).toEqual([NAME])
  })

  test.each([
    { 'wbe.container.intercede.io/profile': 'mknod' },
    { '.container.intercede.io/profile': 'mknod' },
    { 'web.container.intercede.io/profile': 'mknod', 'db.container.intercede.io/profile': 'mknod' },
  ])('%o are refused, because the Pod has no such container', (annotations) => {
    expect(refusals(apps, annotated({ ...annotations, ...required }))).toEqual([CONTAINER])
  })

  test.each(['init', 'db'])('the container %s is one of the Pod', (name) => {
    const spec = { initContainers: [{ name: 'init' }], ephemeralContainers: [{ name: 'db' }] }
    const annotations = { [`${name}.container.intercede.io/profile`]: 'mknod', ...required }
    expect(refusals(apps, pod(spec, annotations))).toEqual([])
  })

  test.each([
    { annotations: { 'required-plugins.noderesource.dev/pod': '["intercede"]' }, says: [] },
    { annotations: { ...required, 'required-plugins.noderesource.dev/pod': '[]' }, says: [REQUIRED] },
    { annotations: { ...required, 'required-plugins.noderesource.dev/container.web': '[]' }, says: [REQUIRED] },
  ])('that of containerd holds in all its forms: $annotations', ({ annotations, says }) => {
    expect(refusals(apps, annotated({ 'intercede.io/profile': 'mknod', ...annotations }))).toEqual(says)
  })

  test.each([{}, required, { 'intercede.io/profiles': 'bpf', 'x.intercede.io/profile': 'bpf' }])(
    '%o ask for nothing',
    (annotations) => expect(refusals(namespace(), annotated(annotations))).toEqual([]),
  )
})

describe('an update', () => {
  const had = pod(localhost('intercede/bpf.json'), { 'intercede.io/profile': 'bpf' })
  const withEphemeral = (path: string) =>
    pod({ ...localhost('intercede/bpf.json'), ephemeralContainers: [{ name: 'debug', ...localhost(path) }] })

  test('may keep what the namespace no longer may name, such as one that removes a finalizer', () => {
    expect(refusals(namespace(), had, had)).toEqual([])
  })

  test('that begins to ask takes the annotation of containerd, as of a Pod that a scheduling gate holds', () => {
    const asks = { 'intercede.io/profile': 'mknod' }
    expect(refusals(apps, annotated(asks), pod({}))).toEqual([REQUIRED])
    expect(refusals(apps, annotated({ ...asks, ...required }), pod({}))).toEqual([])
    expect(refusals(apps, annotated(asks), annotated(asks))).toEqual([])
  })

  test('may not add anything', () => {
    expect(refusals(apps, { ...had, metadata: { annotations: { 'intercede.io/profile': 'mount' } } }, had)).toEqual([
      NAME,
    ])
    expect(refusals(apps, annotated({ 'intercede.io/profile': 'mount', ...required }), pod({}))).toEqual([NAME])
    expect(refusals(apps, withEphemeral('intercede/mount.json'), had)).toEqual([FILE])
    expect(refusals(apps, withEphemeral('intercede/mknod.json'), had)).toEqual([])
  })
})
