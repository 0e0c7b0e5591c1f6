import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { CLI } from '../../support/daemon.ts'
import { until } from '../../support/host.ts'

const folder = fileURLToPath(new URL('../../../deploy/kubernetes/', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'intercede-profiles-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const read = <T>(name: string): T => parse(readFileSync(join(folder, name), 'utf8')) as T
const { data } = read<{
  readonly data: { readonly 'config.yaml': string; readonly base: string; readonly profiles: string }
}>('configuration.yaml')

/** The image's program and script, and what a node and its kubelet have. */
const configuration = join(scratch, 'configuration')
const host = join(scratch, 'host')
const script = join(folder, 'configure.sh')
const program = join(scratch, 'intercede')
const ready = join(scratch, 'ready')
const env = { ...process.env, INTERCEDE: program, RETRY_SECONDS: '0.2', READY: ready }
for (const name of ['configuration', 'host/profiles', 'host/etc/intercede', 'host/run/intercede'])
  mkdirSync(join(scratch, name), { recursive: true })
writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`, { mode: 0o755 })

/** Writes the files as the kubelet does: into a new directory, to which a link then leads. */
function configure(files: Readonly<Record<string, string>>): void {
  const version = mkdtempSync(`${configuration}/..version-`)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(version, name), text)
  symlinkSync(basename(version), join(configuration, '..new'))
  renameSync(join(configuration, '..new'), join(configuration, '..data'))
  for (const name of Object.keys(files))
    if (!existsSync(join(configuration, name))) symlinkSync(join('..data', name), join(configuration, name))
}

test.each(['containerd', 'cri-o'])(
  'the DaemonSet writes a good profile on top of RuntimeDefault of %s for each line of the ConfigMap',
  (base) => {
    // As a value of Helm has it, without an end of its last line.
    configure({ ...data, base: `${base}\n`, profiles: data.profiles.trimEnd() })
    const { status, stderr } = spawnSync('sh', [script, configuration, host], { env, encoding: 'utf8' })
    expect(status, stderr).toBe(0)
    const names = data.profiles
      .trim()
      .split('\n')
      .map((line) => `${line.split(' ')[0]}.json`)
    expect(readdirSync(join(host, 'profiles')).sort()).toEqual(names.sort())
    for (const name of names) {
      const file = join(host, 'profiles', name)
      expect(spawnSync(process.execPath, [CLI, 'profile', '--check', file], { encoding: 'utf8' })).toMatchObject({
        status: 0,
      })
      const profile = JSON.parse(readFileSync(file, 'utf8'))
      expect(profile).toMatchObject({ defaultAction: 'SCMP_ACT_ERRNO', listenerPath: '/run/intercede/oci.sock' })
      expect(profile.defaultErrnoRet).toBe(base === 'cri-o' ? 38 : undefined)
    }
    expect(readFileSync(join(host, 'etc/intercede/config.yaml'), 'utf8')).toBe(data['config.yaml'])
  },
)

test('an edited ConfigMap changes profiles and daemon without a rollout, and a wrong one nothing', {
  timeout: 60_000,
}, async () => {
  configure(data)
  const config = join(host, 'etc/intercede/config.yaml')
  writeFileSync(config, data['config.yaml'])
  let said = ''
  const started = (program: string, args: readonly string[]): ChildProcess => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
    return child
  }
  const saying = (words: string): Promise<void> => until(`it says ${words}: ${said}`, () => said.includes(words), 30)
  const socket = join(host, 'run/intercede/oci.sock')
  const children = [started(process.execPath, [CLI, 'serve', '--socket', socket, '--config', config])]
  try {
    await saying('"serving"')
    children.push(started('sh', [script, configuration, host, '--watch']))
    await saying('containers changed')
    const isReady = (wanted: boolean): Promise<void> =>
      until(`the probe says ${wanted}`, () => existsSync(ready) === wanted, 30)
    await isReady(true)
    said = ''
    configure({ ...data, 'config.yaml': 'profiles: { build: { mknod: treu } }\n', profiles: 'more mknod sysinfo\n' })
    await saying('treu')
    await isReady(false)
    expect(readFileSync(config, 'utf8')).toBe(data['config.yaml'])
    said = ''
    configure({ ...data, profiles: 'more mknod sysinfo\nwrong mknod=treu\n' })
    await saying('treu')
    expect(readdirSync(join(host, 'profiles'))).not.toContain('more.json')
    said = ''
    configure({ ...data, 'config.yaml': 'profiles: { build: { mknod: true } }\n', profiles: 'more mknod sysinfo\n' })
    await saying('containers changed')
    await isReady(true)
    expect(readFileSync(join(host, 'profiles/more.json'), 'utf8')).toContain('"sysinfo"')
    expect(existsSync(join(host, 'profiles/bpf.json'))).toBe(true)
  } finally {
    for (const child of children) {
      child.kill()
      await until('it has ended', () => child.exitCode !== null || child.signalCode !== null, 20)
    }
  }
})

const profiles = new Map(
  data.profiles
    .trim()
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

describe('profile --format spo', () => {
  const actions = ['KILL', 'KILL_PROCESS', 'KILL_THREAD', 'TRAP', 'ERRNO', 'TRACE', 'ALLOW', 'LOG'].map(
    (name) => `SCMP_ACT_${name}`,
  )
  const number = { type: 'integer', minimum: 0, maximum: 2 ** 63 }
  const only = (required: readonly string[], properties: object) => ({
    ...{ type: 'object', additionalProperties: false, required, properties },
  })
  const arg = only(['index', 'op'], {
    index: { type: 'integer', minimum: 0, maximum: 5 },
    value: number,
    valueTwo: number,
    op: { enum: ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((name) => `SCMP_CMP_${name}`) },
  })
  const rule = only(['names', 'action'], {
    names: { type: 'array', items: { type: 'string' }, minItems: 1, uniqueItems: true },
    action: { enum: [...actions, 'SCMP_ACT_NOTIFY'] },
    errnoRet: { type: 'integer', minimum: 0, maximum: 4095 },
    args: { type: 'array', items: arg, maxItems: 6 },
  })
  const architectures = ['X86', 'X86_64', 'X32', 'ARM', 'AARCH64'].map((name) => `SCMP_ARCH_${name}`)
  const flags = ['TSYNC', 'LOG', 'SPEC_ALLOW', 'WAIT_KILLABLE_RECV'].map((name) => `SECCOMP_FILTER_FLAG_${name}`)
  const pattern = '^/var/run/security-profiles-operator/[a-zA-Z0-9_\\-\\.]+$'
  /** What api/seccompprofile/v1 of the security-profiles-operator says of the fields that we set, and of no others. */
  const schema = only(['apiVersion', 'kind', 'metadata', 'spec'], {
    apiVersion: { const: 'security-profiles-operator.x-k8s.io/v1' },
    kind: { const: 'SeccompProfile' },
    metadata: only(['name'], { name: { type: 'string' } }),
    spec: only(['defaultAction'], {
      defaultAction: { enum: actions },
      architectures: { type: 'array', items: { enum: architectures }, uniqueItems: true },
      listenerPath: { type: 'string', maxLength: 107, pattern },
      listenerMetadata: { type: 'string' },
      flags: { type: 'array', items: { enum: flags }, uniqueItems: true },
      syscalls: { type: 'array', items: rule },
    }),
  })
  const isOne = new Ajv2020({ strict: false, allErrors: true }).compile(schema)
  const make = (...options: readonly string[]) =>
    spawnSync(process.execPath, [CLI, 'profile', ...options], { encoding: 'utf8' })
  const listener = '/var/run/security-profiles-operator/intercede.sock'

  test.each([...profiles, ['all', [...profiles.values()].flat()] as const])(
    'makes an object of the API with the rules of %s on top of RuntimeDefault, of which nothing is lost',
    (name, keys) => {
      const words = keys.flatMap((key) => ['-c', key])
      const { status, stdout, stderr } = make('--format', 'spo', '--name', name, ...words)
      expect({ status, stderr }).toEqual({
        status: 0,
        stderr: `intercede: every node must have the socket ${listener}: the DaemonSet of deploy/kubernetes/ puts it there\n`,
      })
      const object = JSON.parse(stdout)
      isOne(object)
      expect(isOne.errors ?? []).toEqual([])
      expect(object.metadata.name).toBe(name)
      const plain = make('--runtime', 'runc', '--base', 'containerd', '--listener', listener, ...words)
      expect(object.spec).toEqual(JSON.parse(plain.stdout))
      const file = join(scratch, `${name}.json`)
      writeFileSync(file, JSON.stringify(object.spec))
      expect(make('--check', file, '--runtime', 'runc')).toMatchObject({ status: 0 })
    },
  )

  test.each([
    { options: ['--base', 'cri-o'], says: 'fail with EPERM there, and in the base profile with 38; use --base' },
    {
      options: ['--listener', '/run/intercede/oci.sock'],
      says: 'only sockets in /var/run/security-profiles-operator/',
    },
    { options: ['--runtime', 'podman'], says: 'name crun or runc' },
    { options: ['--user'], says: 'have no daemon of a user' },
    { options: ['--name', 'Mine'], says: 'it must be a name such as mknod' },
    { options: ['--format', 'oci', '--name', 'mine'], says: 'Cannot use --name here' },
  ])('refuses $options', ({ options, says }) => {
    const { status, stdout, stderr } = make('--format', 'spo', '-c', 'mknod', ...options)
    expect(status).toBeGreaterThan(0)
    expect(stdout).toBe('')
    expect(stderr).toContain(says)
  })
})
