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
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { debianRoot, whyNoDebianRoot } from '../../support/debian-root.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { execute, USERNS, until } from '../../support/host.ts'
import { PackageHost } from '../../support/package-host.ts'
import { withReason } from '../../support/skipped.ts'

/** What listens after an installation. */
const SOCKETS = ['', '-lxc', '-feed', '-control'].map((name) => `intercede${name}.socket`)
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url))
/** What an installation brings, beside what other tests look at. */
const INSTALLED = [
  '/usr/lib/systemd/catalog/intercede.catalog',
  '/usr/share/doc/intercede/examples/kubernetes',
  '/usr/share/doc/intercede/docs/guide/mount.md',
  '/usr/share/doc/intercede/examples/policies/builder.test.yaml',
  '/usr/lib/intercede/docs/guide/security.md',
]
/** What dpkg, systemd's logind, podman and fish leave behind, whatever is installed and purged. */
const LEFT = [
  /^\/var\/(lib\/(dpkg|apt)|cache\/(apt|debconf|ldconfig|man)|log)\//,
  /^\/etc\/(group|gshadow|passwd|shadow)-$/,
  /^\/var\/(lib\/systemd\/linger$|tmp\/systemd-private-)/,
  /^\/var\/(cache\/containers|lib\/containers\/cache|tmp\/intermediate-mountpoint-)/,
  /^\/root\/\.(cache|config|local)($|\/)/,
]

/** Makes nodes until there is a file that says it shall end; each round says what its calls returned. */
const LOOP = `cd /tmp/load && until [ -e end ]; do "$0" --count 200 --warmup 0 n && : >rounds; done`

const why = missing('dpkg-buildpackage', 'dh', 'lintian') ?? (await whyNoDebianRoot())

/** Builds the package of this checkout. @param version if it is to be another one: its bundles are others then */
async function built(directory: string, version?: string): Promise<string> {
  const tree = join(directory, `tree-${version}`, 'intercede')
  mkdirSync(tree, { recursive: true })
  for (const name of ['bin', 'debian', 'deploy', 'docs', 'examples', 'scripts', 'src', 'out', 'dist'])
    cpSync(join(CHECKOUT, name), join(tree, name), { recursive: true })
  const files = readdirSync(CHECKOUT, { withFileTypes: true }).filter((entry) => entry.isFile())
  for (const { name } of files) cpSync(join(CHECKOUT, name), join(tree, name))
  symlinkSync(join(CHECKOUT, 'node_modules'), join(tree, 'node_modules'))
  if (version !== undefined) {
    const [first, ...rest] = readFileSync(join(tree, 'debian/changelog'), 'utf8').split('\n')
    writeFileSync(join(tree, 'debian/changelog'), [first!.replace(/\(.*?\)/, `(${version})`), ...rest].join('\n'))
    appendFileSync(join(tree, 'out/kernel/libc.js'), '\nglobalThis.intercedeOther = true\n')
    for (const script of ['bundle', 'man', 'completions'])
      execFileSync(process.execPath, [join(tree, `scripts/${script}.js`)])
  }
  const { status, stdout, stderr } = await execute('dpkg-buildpackage', ['-b', '-us', '-uc'], { cwd: tree })
  if (status !== 0) throw new Error(`${stdout}${stderr}`)
  return join(tree, '..', readdirSync(join(tree, '..')).find((name) => name.endsWith('.deb'))!)
}

describe.skipIf(why)(withReason('the package of Debian', why), () => {
  // The system that it is installed in sees the checkout, where it is here.
  const cache = join(CHECKOUT, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const directory = mkdtempSync(join(cache, 'intercede-deb-'))
  let [first, second] = ['', '']
  let host: PackageHost
  let before: readonly string[] = []
  const apt = (...words: readonly string[]): Promise<string> =>
    host.must('env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '--yes', '--quiet', ...words)
  /** Every file of the system that is not thrown away when it is shut down. */
  const files = async (): Promise<string[]> => (await host.must('find', '/', '-xdev')).trim().split('\n')

  beforeAll(async () => {
    ;[first, second] = await Promise.all([built(directory), built(directory, '9.9')])
    host = await PackageHost.start(debianRoot())
    await apt('update')
    before = await files()
  }, 900_000)
  afterAll(async () => {
    await host?.close()
    rmSync(directory, { recursive: true, force: true })
  }, 120_000)

  test('lintian has nothing to say of it', { timeout: 120_000 }, async () => {
    const { stdout, stderr } = await execute('lintian', ['--allow-root', '--fail-on', 'error,warning', first])
    expect(`${stdout}${stderr}`).toBe('')
  })

  test('it brings all that it needs, and listens', { timeout: 300_000 }, async () => {
    expect((await host.run('sh', '-c', 'command -v node tini')).stdout).toBe('')
    await apt('install', first)
    expect(await host.must('systemctl', 'is-active', ...SOCKETS)).toBe('active\n'.repeat(SOCKETS.length))
    expect(await host.must('systemctl', 'is-enabled', ...SOCKETS)).toBe('enabled\n'.repeat(SOCKETS.length))
    expect(await host.must('systemctl', 'status', '--no-pager', 'intercede.socket')).toContain('active (listening)')
    expect((await host.run('systemctl', 'is-active', 'intercede.service')).stdout).toBe('inactive\n')
    expect(await host.must('getent', 'group', 'intercede')).toMatch(/^intercede:/)
    expect(await host.must('stat', '-c', '%G %a', '/run/intercede/feed.sock')).toBe('intercede 660\n')
    await host.must('ls', ...INSTALLED)
  })

  test('it has pages, a configuration that can be read, and what makes starts quick', async () => {
    expect(await host.must('sh', '-c', 'man intercede | cat')).toMatch(/^INTERCEDE\(1\).*\n\nNAME\n/)
    await host.must('man', '-w', 'intercede-run')
    await host.must('man', '-w', '7', 'intercede-policy')
    await host.must('man', '-w', '5', 'intercede.yaml')
    await host.must('intercede', 'serve', '--check-config', '--config', '/etc/intercede/config.yaml')
    expect(await host.must('ls', '/usr/lib/intercede/dist/cache')).toMatch(/^v\d+/)
  })

  test('no page has a fault, nor a flaw of style, where all that they name is installed', async () => {
    const each = 'plain=/tmp/$(basename $page .gz); zcat $page >$plain && mandoc -T lint $plain'
    const script = `for page in /usr/share/man/man?/intercede*; do ${each} || exit; done`
    expect(await host.must('sh', '-c', script)).toBe('')
  })

  test('bash, zsh and fish find their completions', { timeout: 60_000 }, async () => {
    const bash = '. /usr/share/bash-completion/bash_completion && _comp_load intercede && complete -p intercede'
    expect(await host.must('bash', '--norc', '-c', bash)).toBe('complete -F _intercede intercede\n')
    const zsh = 'autoload -Uz compinit; compinit -D; print $_comps[intercede]; autoload +X _intercede'
    expect(await host.must('zsh', '-f', '-c', zsh)).toBe('_intercede\n')
    expect(await host.must('fish', '-c', 'complete -C "intercede ins"')).toMatch(/^inspect\t/)
  })

  test('a container of podman with the printed flags may make what it may not without', {
    timeout: 300_000,
  }, async () => {
    await host.must(
      'sh',
      '-c',
      'mkdir -p /tmp/c/bin /tmp/c/proc /tmp/c/sys /tmp/c/dev /tmp/c/etc /tmp/c/run && cp "$(command -v busybox)" /tmp/c/bin/',
    )
    await host.must('sh', '-c', 'echo containers:1000000000:1000000 | tee -a /etc/subuid >>/etc/subgid')
    const state = '--root /tmp/p/store --runroot /tmp/p/run --storage-driver vfs'
    const podman = `podman ${state} --runtime crun --cgroup-manager cgroupfs`
    await host.must('sh', '-c', `tar -C /tmp/c -c . | ${podman} import -q - test`)
    const run = `${podman} run --rm --cgroups=disabled --network=none`
    const makes = 'test /bin/busybox mknod /dev/mine c 1 3'
    // Without --interactive crun would give the host's null device to the container.
    expect((await host.run('sh', '-c', `${run} --interactive --userns=auto ${makes}`)).stderr).toMatch(
      /Operation not permitted/,
    )
    await host.must('sh', '-c', 'intercede flags podman -c mknod --write >/tmp/flags')
    await host.must('sh', '-c', `${run} $(cat /tmp/flags) ${makes}`)
    const isActive = async (): Promise<boolean> => (await host.run('systemctl', 'is-active', 'intercede')).status === 0
    await until('the service says that it is ready', isActive)
  })

  test('an upgrade loses no call of a container that runs', { timeout: 300_000 }, async () => {
    await host.must(
      'sh',
      '-c',
      'echo "default: { mknod: true }" >/etc/intercede/config.yaml && systemctl reload-or-restart intercede',
    )
    const pid = await host.must('systemctl', 'show', '--value', '-p', 'MainPID', 'intercede.service')
    const before = await host.must('intercede', '--version')
    await host.must('sh', '-c', 'mkdir /tmp/load && chown 200000:200000 /tmp/load')
    const container = ['/run/intercede/oci.sock', '--userns', USERNS, '--await-agent', '--']
    // It calls until it is told to end, for longer than the upgrade takes.
    const load = host.run(
      fixture('filtered'),
      ...container,
      'timeout',
      '-s',
      'KILL',
      '200',
      'sh',
      '-c',
      LOOP,
      fixture('mknod-loop'),
    )
    await until('it calls', async () => (await host.run('test', '-e', '/tmp/load/rounds')).status === 0, 60)
    await apt('install', second)
    const [build = ''] = /(?<=build )\w+/.exec(await host.must('intercede', '--version')) ?? []
    expect(before).not.toContain(build)
    const engines = async (): Promise<string> => (await host.run('pgrep', '-a', '-f', 'dist/engine/main')).stdout
    await until('an engine of the next program serves', async () => (await engines()).includes(build), 60)
    await host.must('sh', '-c', 'sleep 1; touch /tmp/load/end')
    const { stdout } = await load
    const rounds = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { calls: number; errors: object })
    expect(rounds.length).toBeGreaterThan(3)
    expect(rounds.filter(({ errors }) => Object.keys(errors).length > 0)).toEqual([])
    expect(await host.must('systemctl', 'show', '--value', '-p', 'MainPID', 'intercede.service')).toBe(pid)
  })

  test('when it is removed all that it has started ends, also the API, and nothing listens', {
    timeout: 120_000,
  }, async () => {
    const units = readdirSync(join(CHECKOUT, 'deploy/systemd')).filter((name) => /\.(service|socket)$/.test(name))
    await host.must('systemctl', 'start', 'intercede-api.socket')
    const ask =
      "require('http').get({ socketPath: '/run/intercede/view.sock', path: '/v1/status', headers: { host: 'localhost' } }, (answer) => answer.resume())"
    await host.must('node', '-e', ask)
    const active = async (): Promise<string> => (await host.run('systemctl', 'is-active', ...units)).stdout
    expect((await active()).trim().split('\n')).toEqual(units.map(() => 'active'))
    await apt('remove', 'intercede')
    expect((await active()).trim().split('\n')).toEqual(units.map(() => 'inactive'))
    expect((await host.run('pgrep', '-a', '-f', '/usr/lib/intercede')).stdout).toBe('')
  })

  test('what was removed keeps its configuration, and can be installed again', { timeout: 120_000 }, async () => {
    expect(await host.must('cat', '/etc/intercede/config.yaml')).toBe('default: { mknod: true }\n')
    await apt('install', first)
    expect(await host.must('systemctl', 'is-active', ...SOCKETS)).toBe('active\n'.repeat(SOCKETS.length))
    // Whoever asks wakes the daemon.
    await until('an engine serves', async () => (await host.run('intercede', 'status')).status === 0)
  })

  test('when it is purged nothing is left', { timeout: 120_000 }, async () => {
    // With what came with it, even if another package suggests that too.
    const alone = ['Recommends', 'Suggests'].flatMap((what) => ['-o', `APT::AutoRemove::${what}Important=false`])
    await apt(...alone, 'purge', '--autoremove', 'intercede')
    const left = (await files()).filter((path) => !before.includes(path) && !LEFT.some((known) => known.test(path)))
    expect(left).toEqual([])
    expect(await host.must('sh', '-c', 'ls -d /run/intercede 2>/dev/null; true')).toBe('')
    expect(await host.must('systemctl', 'list-units', '--all', '--no-legend', 'intercede*')).toBe('')
    expect((await host.run('pgrep', '-f', '/usr/lib/intercede')).stdout).toBe('')
  })
})
