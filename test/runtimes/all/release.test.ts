import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KUBERNETES, kubelet, podmanRuns } from '../../support/daemonset.ts'
import { debianRoot, whyNoDebianRoot } from '../../support/debian-root.ts'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { MIRROR, SUITE } from '../../support/mirror.ts'
import { PackageHost } from '../../support/package-host.ts'
import { withReason } from '../../support/skipped.ts'

const MINUTES = 60_000
const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
/** With INTERCEDE_RELEASE=1 all of it is made twice, and compressed as it is published, which takes minutes. */
const whole = process.env.INTERCEDE_RELEASE === '1'
const WORDS = { first: whole ? [] : ['--level', '0'], second: whole ? [] : ['--level', '0', '--only', 'x64'] }
/** What else is asked of arm64: to run. */
const noArm = whole ? missing('qemu-aarch64') : 'INTERCEDE_RELEASE is not 1'
/** As ELF numbers it. */
const EM_AARCH64 = 183
/** Where the schema of bills is, with what it refers to. */
const SCHEMAS = '@cyclonedx/cyclonedx-library@10.3.0'
/** The Nodes that CI runs the tests with, beside Debian's. */
const [, nodes = ''] = /^nodes=\((.*)\)$/m.exec(readFileSync(join(ROOT, '.ci/run'), 'utf8')) ?? []

/** What README shows as the demo: the words after "run", and how that ends. */
const DEMO = [
  { words: ['--', 'mknod', 'null', 'c', '1', '3'], status: 1, says: 'Operation not permitted' },
  {
    words: ['-c', 'mknod', '--', 'sh', '-c', 'mknod null c 1 3 && echo gone >null && stat -c "%F %t:%T" null'],
    ...{ status: 0, says: 'character special file 1:3' },
  },
  {
    words: ['-c', 'mknod', '--', 'mknod', 'mem', 'c', '1', '1'],
    ...{ status: 1, says: 'mknodat left to the kernel: the device 1:1 is not allowed' },
  },
]

async function demo(run: (...command: readonly string[]) => Promise<Done>, program: readonly string[]): Promise<void> {
  for (const { words, status, says } of DEMO) {
    const done = await run(...program, 'run', ...words)
    expect(`${done.stdout}${done.stderr}`).toContain(says)
    expect(done.status).toBe(status)
  }
}

/** Gives a checkout our packages, and a line of an attacker's to one of them that is bundled. */
function poison(checkout: string): void {
  const [from, to] = [join(ROOT, 'node_modules'), join(checkout, 'node_modules')]
  mkdirSync(to)
  for (const name of readdirSync(from)) if (name !== 'valibot') symlinkSync(join(from, name), join(to, name))
  cpSync(join(from, 'valibot'), join(to, 'valibot'), { recursive: true })
  for (const name of ['index.mjs', 'index.cjs'])
    appendFileSync(join(to, 'valibot/dist', name), 'globalThis.attacked = true\n')
}

const why = missing('dpkg-buildpackage', 'dh', 'git', 'xz', 'crun') ?? (await whyNoDebianRoot())

describe.skipIf(why)(withReason('everything that is published', why), { timeout: 10 * MINUTES }, () => {
  // The system that it is used in sees the checkout, where it is here.
  const cache = join(ROOT, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const scratch = mkdtempSync(join(cache, 'intercede-release-test-'))
  const [first, second] = [join(scratch, 'first'), join(scratch, 'second')]
  let host: PackageHost

  beforeAll(async () => {
    // The second time in another checkout, whose packages are not those of the lock file.
    const other = join(scratch, 'another/checkout')
    expect(await execute('git', ['clone', '--quiet', ROOT, other])).toMatchObject({ status: 0 })
    poison(other)
    for (const [to, words, cwd] of [[first, WORDS.first, ROOT] as const, [second, WORDS.second, other] as const]) {
      const release = ['run', '--silent', 'release', '--', '--dry-run', '--to', to, ...words]
      const done = await execute('npm', release, { cwd })
      if (done.status !== 0) throw new Error(done.stderr)
    }
    host = await PackageHost.start(debianRoot())
  }, 50 * MINUTES)
  afterAll(async () => {
    await host?.close()
    rmSync(scratch, { recursive: true })
  }, 2 * MINUTES)

  const fileOf = (end: string): string => join(first, readdirSync(first).find((name) => name.endsWith(end))!)

  test('is made of the last commit, twice the same', () => {
    const names = readdirSync(first).map((name) => name.replace(/\d+\.\d+\.\d+/, 'N'))
    expect(names.sort()).toEqual([
      ...['SHA256SUMS', 'intercede-N.cdx.json', 'intercede-N.tgz', 'intercede-linux-arm64.tar.xz'],
      ...['intercede-linux-x64.tar.xz', 'intercede_N_amd64.deb', 'intercede_N_arm64.deb'],
    ])
    const sums = (directory: string): string[] => readFileSync(join(directory, 'SHA256SUMS'), 'utf8').trim().split('\n')
    expect(sums(second)).toEqual(sums(first).filter((line) => whole || !line.includes('arm64')))
    execFileSync('sh', ['-c', 'cd "$0" && sha256sum --check --strict --quiet SHA256SUMS', first])
  })

  test('refuses a directory that has other files, and what it does not know', async () => {
    const precious = join(scratch, 'precious')
    mkdirSync(precious)
    writeFileSync(join(precious, 'thesis.txt'), 'data')
    const release = (...words: string[]) =>
      execute('node', ['scripts/release.js', '--dry-run', ...words], { cwd: ROOT })
    for (const words of [['--to', precious], ['--only', 'mips'], ['--level', 'best'], ['--bogus']])
      expect(await release(...words)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/^release: .*--help\n$/),
      })
    writeFileSync(join(precious, 'old.tgz'), '')
    writeFileSync(join(precious, 'SHA256SUMS'), `${'0'.repeat(64)}  old.tgz\n`)
    const refusal = { status: 2, stderr: expect.stringMatching(/it has another file, "thesis.txt"/) }
    expect(await release('--to', precious)).toMatchObject(refusal)
    expect(readdirSync(precious).sort()).toEqual(['SHA256SUMS', 'old.tgz', 'thesis.txt'])
    expect(await release('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^usage: npm run release/),
    })
  })

  test('says first which program is missing, and a run that fails leaves what an earlier one made', async () => {
    const [to, bin] = [join(scratch, 'kept'), join(scratch, 'bin')]
    for (const folder of [to, bin]) mkdirSync(folder)
    writeFileSync(join(to, 'old.tgz'), 'old')
    writeFileSync(join(to, 'SHA256SUMS'), `${'0'.repeat(64)}  old.tgz\n`)
    const programs = ['git', 'xz', 'dpkg-buildpackage', 'node', 'sh', 'tar', 'rm']
    for (const name of programs) execFileSync('sh', ['-c', 'ln -s "$(command -v "$0")" "$1/$0"', name, bin])
    const words = ['scripts/release.js', '--dry-run', '--to', to]
    const run = () => execute('node', words, { cwd: ROOT, env: { ...process.env, PATH: bin } })
    expect(await run()).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^release: .*: apt install debhelper;.*\n$/),
    })
    // All are there, and npm fails at once.
    for (const name of ['dh', 'npm']) writeFileSync(join(bin, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    const { status, stderr } = await run()
    expect(status).toBe(1)
    expect(stderr).not.toContain('    at ')
    expect(readdirSync(to).sort()).toEqual(['SHA256SUMS', 'old.tgz'])
    expect(readdirSync(scratch).filter((name) => name.startsWith('.intercede'))).toEqual([])
  })

  test('has a bill of what is in it, which is as CycloneDX says', async () => {
    await execute('npm', ['pack', '--silent', '--prefer-offline', '--pack-destination', scratch, SCHEMAS])
    const unpack = 'cd "$0" && tar -x -f cyclonedx-*.tgz --strip-components=3 package/res/schema'
    expect(await execute('sh', ['-c', unpack, scratch])).toMatchObject({ status: 0 })
    const read = (name: string): object =>
      JSON.parse(readFileSync(join(scratch, `${name}.SNAPSHOT.schema.json`), 'utf8'))
    const ajv = new Ajv({ strict: false, formats: { 'iri-reference': true, 'idn-email': true } })
    addFormats.default(ajv)
    for (const name of ['spdx', 'jsf-0.82'])
      ajv.addSchema(read(name), `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`)
    const bill = JSON.parse(readFileSync(fileOf('.cdx.json'), 'utf8'))
    const isRight = ajv.compile(read('bom-1.5'))
    expect(isRight(bill), JSON.stringify(isRight.errors)).toBe(true)
    const names = bill.components.map(({ name }: { readonly name: string }) => name)
    const bundled = readFileSync(join(ROOT, 'dist/licenses.txt'), 'utf8')
      .split('\n---\n\n')
      .map((text) => text.split('\n')[0]!)
    const [native, nodes] = ['@koromix/koffi-linux', 'node-linux'].map((name) => [`${name}-x64`, `${name}-arm64`])
    expect(names.sort()).toEqual([...new Set([...bundled, 'koffi', ...native!, ...nodes!])].sort())
  })

  test('for arm64 it has the native code of arm64', async () => {
    const name = 'node_modules/@koromix/koffi-linux-arm64/linux_arm64/koffi.node'
    const machine = 'od -An -tu2 -j18 -N2'
    const script = `dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/lib/intercede/${name} | ${machine}
      for file in lib/intercede/${name} node/bin/node; do tar -xOf "$1" "intercede-linux-arm64/$file" | ${machine}; done`
    const { stdout } = await execute('sh', ['-c', script, fileOf('_arm64.deb'), fileOf('-arm64.tar.xz')])
    expect(stdout.trim().split(/\s+/).map(Number)).toEqual([EM_AARCH64, EM_AARCH64, EM_AARCH64])
  })

  test.skipIf(noArm)(withReason('the archive for arm64 runs, and makes calls by koffi', noArm), async () => {
    const libraries = join(scratch, 'arm64')
    const extract = ['--quiet', '--architectures=arm64', '--variant=extract', '--include=libstdc++6']
    expect(await execute('mmdebstrap', [...extract, SUITE, libraries, MIRROR])).toMatchObject({ status: 0 })
    // What usrmerge makes when a system is installed.
    symlinkSync('usr/lib', join(libraries, 'lib'))
    execFileSync('tar', ['-x', '-f', fileOf('-arm64.tar.xz'), '-C', scratch])
    const top = join(scratch, 'intercede-linux-arm64')
    const program = ['-L', libraries, join(top, 'node/bin/node'), join(top, 'lib/intercede/bin/intercede.js')]
    expect((await execute('qemu-aarch64', [...program, '--version'])).stdout).toMatch(/^\d/)
    const { stdout } = await execute('qemu-aarch64', [...program, 'profile', '-c', 'mknod'])
    expect(JSON.parse(stdout).architectures).toContain('SCMP_ARCH_AARCH64')
    const calls = `console.log(require('koffi').load('libc.so.6').func('int getpid()')() === process.pid)`
    const node = [...program.slice(0, 3), '-e', calls]
    expect(await execute('qemu-aarch64', node, { cwd: join(top, 'lib/intercede') })).toMatchObject({ stdout: 'true\n' })
  })

  test('the archive is of use on a machine that has no Node', async () => {
    expect((await host.run('sh', '-c', 'command -v node')).stdout).toBe('')
    await host.must('sh', '-c', 'apt-get update && apt-get install --yes --no-install-recommends tini')
    await host.must('tar', '-x', '-f', fileOf('-x64.tar.xz'), '-C', '/opt')
    await demo((...command) => host.run(...command), ['/opt/intercede-linux-x64/bin/intercede'])
    for (const page of ['man1/intercede.1', 'man5/intercede.yaml.5', 'man7/intercede-policy.7'])
      await host.must('test', '-s', `/opt/intercede-linux-x64/share/man/${page}`)
    const shown = await host.run('/opt/intercede-linux-x64/lib/intercede/scripts/demo.sh')
    expect(shown, shown.stderr).toMatchObject({ status: 0 })
    const pages = ['man/intercede.1', 'man/intercede.yaml.5', 'completions/intercede.bash', 'completions/_intercede']
    await host.must('ls', ...pages.map((name) => `/opt/intercede-linux-x64/lib/intercede/dist/${name}`))
    // What the node of Kubernetes, and any other machine, must have for it.
    await host.must('cp', '/opt/intercede-linux-x64/node/bin/node', scratch)
    const versions = 'readelf --version-info "$0" | grep -o "GLIBC_[0-9.]*" | sort --version-sort | tail -1'
    expect((await execute('sh', ['-c', versions, join(scratch, 'node')])).stdout).toBe('GLIBC_2.28\n')
  })

  test.each(['own', ...nodes.split(' ')])(
    'the package of npm is of use without its scripts, Node %s',
    async (version) => {
      const find = ['--yes', '--package', `node-linux-${process.arch}@${version}`, '--call', 'command -v node']
      const node = version === 'own' ? process.execPath : (await execute('npx', find)).stdout.trim()
      const prefix = mkdtempSync(join(scratch, 'prefix-'))
      const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` }
      const run = (program: string, ...args: readonly string[]): Promise<Done> => execute(program, args, { env })
      if (version !== 'own') expect((await run('node', '--version')).stdout).toBe(`v${version}\n`)
      const install = [
        'install',
        '--global',
        '--prefix',
        prefix,
        '--ignore-scripts',
        '--prefer-offline',
        fileOf('.tgz'),
      ]
      expect(await run('npm', ...install)).toMatchObject({ status: 0 })
      expect(readdirSync(join(prefix, 'share/man'), { recursive: true })).toEqual(
        expect.arrayContaining(['man1/intercede-run.1', 'man5/intercede.yaml.5', 'man7/intercede-policy.7']),
      )
      await demo((...command) => run(command[0]!, ...command.slice(1)), [join(prefix, 'bin/intercede')])
    },
  )

  test('the image of Kubernetes is built without a network, and serves a node as its DaemonSet says', async () => {
    const [base, image] = ['docker.io/library/debian:trixie-slim', 'registry.example/intercede:0.1.0']
    const podman = 'podman --root /tmp/p/store --runroot /tmp/p/run --runtime crun --cgroup-manager cgroupfs'
    const run = [...podman.split(' '), '--runtime-flag=cgroup-manager=disabled', 'run', '--network=none']
    await host.must('sh', '-c', `tar -c -C "$0" . | ${podman} import --quiet - ${base}`, debianRoot())
    // podman takes half a minute to unpack what xz has packed.
    await host.must('sh', '-c', 'mkdir /tmp/i && xz -dc "$0" >/tmp/i/all.tar', fileOf('-x64.tar.xz'))
    const build = ['build', '--network=none', '--pull=never', '--build-arg', 'ARCHIVE=all.tar']
    // Where nobody may raise limits podman would try to.
    const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024']
    const file = join(KUBERNETES, 'Containerfile')
    await host.must(...podman.split(' '), ...build, ...limits, '--file', file, '--tag', image, '/tmp/i')
    await host.must('sh', '-c', kubelet('/tmp/configuration'))
    const { initContainers, containers } = podmanRuns(image, '/tmp/configuration')
    for (const each of initContainers) await host.must(...run, ...each)
    for (const each of containers) await host.must(...run, '--detach', ...each)
    const program = '/opt/intercede/bin/intercede'
    await until('it serves', async () => (await host.run(program, 'status')).status === 0, 60)
    const probe = [...podman.split(' '), 'exec', 'configuration', 'test', '-e', '/tmp/ready']
    await until('the daemon has taken the configuration', async () => (await host.run(...probe)).status === 0, 60)
    // As the kubelet would, with the profile that the DaemonSet has written.
    await host.must('sh', '-c', 'echo containers:1000000000:1000000 | tee -a /etc/subuid >>/etc/subgid')
    const pod = ['--interactive', '--userns=auto', '--cap-add=MKNOD']
    const makes = [base, 'mknod', '/dev/mine', 'c', '1', '3']
    expect((await host.run(...run, ...pod, ...makes)).stderr).toContain('Operation not permitted')
    const profiles = '/var/lib/kubelet/seccomp/intercede'
    const profile = `--security-opt=seccomp=${profiles}/mknod.json`
    await host.must(...run, ...pod, profile, ...makes)
    const log = async (): Promise<string> => (await host.run(...podman.split(' '), 'logs', 'daemon')).stdout
    await until('the log has the call', async () => /^.*: mknodat done/m.test(await log()), 60)
    const edit = 'echo more mknod sysinfo >>/tmp/configuration/profiles && ln -sfn second /tmp/configuration/..data'
    await host.must('sh', '-c', edit)
    const more = async (): Promise<boolean> => (await host.run('ls', `${profiles}/more.json`)).status === 0
    await until('the node has the new profile', more, 60)
    // As the kubelet does. The service of the node goes on, until the Pod has been away for long.
    const podmanDoes = (...words: readonly string[]): Promise<string> => host.must(...podman.split(' '), ...words)
    for (const name of ['configuration', 'daemon']) {
      const pid = await podmanDoes('inspect', '--format={{.State.Pid}}', name)
      await host.must('kill', '-TERM', pid.trim())
    }
    expect(await podmanDoes('wait', 'daemon')).toBe('0\n')
    await host.must(...run, ...pod, profile, ...makes)
    await host.must('touch', '-d', '1 hour ago', '/run/intercede/pod')
    await host.must('systemctl', 'set-environment', 'AGAIN_SECONDS=0')
    await host.must('systemctl', 'start', 'intercede-leave.service')
    const left = await host.run('ls', '/opt/intercede', '/etc/intercede', '/run/intercede', profiles)
    expect(left.stdout).toBe('')
  })
})
