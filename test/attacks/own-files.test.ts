// The daemon is root and becomes whatever its files are: it does not start if others may change them, or exchange its
// sockets, fs/namei.c inode_permission().
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  cpSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { listenUnix } from '../../src/kernel/socket.ts'
import { Daemon } from '../support/daemon.ts'
import { until } from '../support/host.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'intercede-own-'))
const installed = join(directory, 'installed')
const config = join(directory, 'etc', 'config.yaml')
const SOMEBODY = 1000
const cache = join(installed, 'dist/cache', `${process.version}-${process.arch}`)

beforeAll(() => chmodSync(directory, 0o755))
beforeEach(() => {
  for (const part of [installed, join(directory, 'etc')]) rmSync(part, { recursive: true, force: true })
  mkdirSync(join(directory, 'etc'))
  writeFileSync(config, 'default: { mknod: true }\n')
  mkdirSync(installed)
  for (const part of ['bin', 'dist', 'package.json'])
    cpSync(join(ROOT, part), join(installed, part), { recursive: true, preserveTimestamps: true })
  symlinkSync(join(ROOT, 'node_modules'), join(installed, 'node_modules'))
})
afterAll(() => rmSync(directory, { recursive: true }))

/** @returns whether it starts, and what it says until then, or instead */
async function serve(file = config, place = directory): Promise<{ readonly started: boolean; readonly says: string }> {
  const socket = ['--socket', join(place, 'oci.sock')]
  const child = spawn(process.execPath, [join(installed, 'bin/intercede.js'), 'serve', ...socket, '--config', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 60_000,
  })
  const ended = once(child, 'close')
  let says = ''
  let started = false
  child.stderr.on('data', (chunk: Buffer) => {
    says += chunk.toString()
    started ||= says.includes('"message":"serving"')
    if (started) child.kill()
  })
  await ended
  return { started, says }
}
const cli = (...args: readonly string[]) =>
  spawnSync(process.execPath, [join(installed, 'bin/intercede.js'), ...args], { encoding: 'utf8' })

describe('serve', () => {
  test('starts with files of root', async () => expect(await serve()).toMatchObject({ started: true }))

  test('starts in a directory that everybody may write to, but with the sticky bit', async () => {
    chmodSync(directory, 0o1777)
    expect(await serve()).toMatchObject({ started: true })
    chmodSync(directory, 0o755)
  })

  const cases: readonly (readonly [what: string, path: string, spoil: (path: string) => void, says: string])[] = [
    [
      'a checkout of somebody else',
      installed,
      (path) => chownSync(path, SOMEBODY, SOMEBODY),
      'belongs to user 1000: chown root',
    ],
    [
      'a module that everybody may write',
      join(installed, 'dist/engine/main.js'),
      (path) => chmodSync(path, 0o666),
      'everybody',
    ],
    [
      'a module of somebody else',
      join(installed, 'dist/thread.js'),
      (path) => chownSync(path, SOMEBODY, 0),
      'user 1000',
    ],
    [
      'a directory of modules that a group may write',
      join(installed, 'dist/engine'),
      (path) => chmodSync(path, 0o775),
      'its group',
    ],
    ['cached code that everybody may write', join(cache, 'engine'), (path) => chmodSync(path, 0o666), 'everybody'],
    ['cached code of somebody else', join(cache, 'cli'), (path) => chownSync(path, SOMEBODY, 0), 'user 1000'],
    ['a directory of cached code that a group may write', cache, (path) => chmodSync(path, 0o775), 'its group'],
    ['a directory above it', directory, (path) => chmodSync(path, 0o777), 'everybody'],
    ['what is started', join(installed, 'bin/intercede.js'), (path) => chmodSync(path, 0o777), 'everybody'],
    ['its package.json', join(installed, 'package.json'), (path) => chmodSync(path, 0o666), 'everybody'],
    ['its configuration', config, (path) => chmodSync(path, 0o664), 'its group: chmod go-w'],
    ['the directory of its configuration', join(directory, 'etc'), (path) => chownSync(path, SOMEBODY, 0), 'user 1000'],
  ]
  test.each(cases)('does not start with %s, as --check-config says', async (_, path, spoil, says) => {
    spoil(path)
    const said = await serve()
    const { status, stderr } = cli('serve', '--check-config', '--config', config)
    chmodSync(directory, 0o755)
    const why = `Cannot serve, because others could change what it runs: ${JSON.stringify(path)} `
    expect(said).toEqual({ started: false, says: expect.stringContaining(why) })
    expect(said.says).toContain(says)
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(why) })
  })
})

describe('sockets', () => {
  const place = join(directory, 'sockets')
  beforeEach(() => mkdirSync(place))
  afterEach(() => rmSync(place, { recursive: true }))

  const cases: readonly (readonly [what: string, spoil: () => void, says: string])[] = [
    ['of somebody else', () => chownSync(place, SOMEBODY, SOMEBODY), 'belongs to user 1000: chown root'],
    ['that a group may write', () => chmodSync(place, 0o775), 'can be written by its group: chmod go-w'],
    ['that everybody may write', () => chmodSync(place, 0o777), 'can be written by everybody: chmod go-w'],
  ]
  test.each(cases)('are in no directory %s', async (_, spoil, says) => {
    spoil()
    expect(await serve(config, place)).toEqual({
      started: false,
      says: expect.stringContaining(
        `Cannot listen, because other users could replace the sockets: ${JSON.stringify(place)} ${says}`,
      ),
    })
    const api = cli('api', '--socket', join(place, 'view.sock'))
    expect({ status: api.status, says: api.stderr }).toEqual({ status: 125, says: expect.stringContaining(says) })
  })

  test('are in a directory that everybody may write to, but with the sticky bit', async () => {
    chmodSync(place, 0o1777)
    expect(await serve(config, place)).toMatchObject({ started: true })
  })

  test('of somebody else are not replaced', async () => {
    chmodSync(place, 0o1777)
    listenUnix(join(place, 'oci.sock'))[Symbol.dispose]()
    lchownSync(join(place, 'oci.sock'), SOMEBODY, SOMEBODY)
    expect(await serve(config, place)).toEqual({
      started: false,
      says: expect.stringContaining('the socket that is there belongs to user 1000; remove it, or name another path'),
    })
  })

  test('give nothing away when a link is put where one was, before a reload', async () => {
    const [group, target] = [join(directory, 'group'), join(place, 'target')]
    writeFileSync(group, `root:x:0:\nintercede:x:${SOMEBODY}:\n`)
    writeFileSync(target, 'secret', { mode: 0o600 })
    const within = ['unshare', '--mount', 'sh', '-c', `mount --bind ${group} /etc/group && exec "$0" "$@"`]
    const daemon = await Daemon.start('', join(installed, 'bin/intercede.js'), within)
    const feed = join(daemon.directory, 'feed.sock')
    try {
      const socket = lstatSync(feed)
      expect({ gid: socket.gid, mode: socket.mode & 0o7777 }).toEqual({ gid: SOMEBODY, mode: 0o660 })
      renameSync(feed, `${feed}-was`)
      symlinkSync(target, feed)
      const isAsBefore = (): void => {
        const { gid, mode } = lstatSync(target)
        expect({ gid, mode: mode & 0o7777 }).toEqual({ gid: 0, mode: 0o600 })
      }
      chmodSync(daemon.directory, 0o777)
      process.kill(daemon.pid!, 'SIGHUP')
      const says = (): boolean => daemon.said.join('').includes('could replace the sockets')
      await until('it has said why not, or reloaded', () => says() || daemon.logged('serving') === 2, 30)
      isAsBefore()
      expect(says()).toBe(true)
      // The operator has mended the directory, but not the link.
      chmodSync(daemon.directory, 0o755)
      process.kill(daemon.pid!, 'SIGHUP')
      await until('it has reloaded', () => daemon.logged('serving') === 2, 30)
      isAsBefore()
    } finally {
      await daemon.close()
    }
  })
})

/** Where an installer puts packages, from the directory that we are in; each may be a link to where it really is. */
const LAYOUTS = {
  'in node_modules': (name: string) => join(installed, 'node_modules', name),
  'of the directory above': (name: string) => join(directory, 'node_modules', name),
  'of pnpm': (name: string) => {
    // Beside each package are links to those which it needs.
    const owner = name.startsWith('@koromix/') ? 'koffi' : 'intercede'
    const store = join(installed, 'node_modules/.pnpm')
    const real = join(store, `${name.replace('/', '+')}@1.0.0/node_modules`, name)
    const link = join(
      owner === 'koffi' ? join(store, 'koffi@1.0.0/node_modules') : join(installed, 'node_modules'),
      name,
    )
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(real, link)
    return real
  },
} as const
const PLATFORM = `@koromix/koffi-${process.platform}-${process.arch}`

/** Real copies of what we need of others. @returns where each is */
function install(layout: keyof typeof LAYOUTS): (name: string) => string {
  rmSync(join(installed, 'node_modules'))
  const places = new Map<string, string>()
  for (const name of ['koffi', PLATFORM]) {
    const place = LAYOUTS[layout](name)
    cpSync(join(ROOT, 'node_modules', name), place, { recursive: true })
    places.set(name, place)
  }
  return (name) => places.get(name)!
}

describe.each(Object.keys(LAYOUTS) as readonly (keyof typeof LAYOUTS)[])('serve, with packages %s', (layout) => {
  afterEach(() => rmSync(join(directory, 'node_modules'), { recursive: true, force: true }))

  test('starts with files of root', async () => {
    install(layout)
    expect(await serve()).toMatchObject({ started: true })
  })

  const native = `linux_${process.arch}/koffi.node`
  test.each([
    ['native code that everybody may write', PLATFORM, native, 0o666],
    ['the directory of native code', PLATFORM, '..', 0o777],
    ['a module that is not the main one', 'koffi', 'src/koffi/index.cjs', 0o666],
    ['a directory of modules', 'koffi', 'src/koffi', 0o777],
    ["a package's package.json", 'koffi', 'package.json', 0o666],
    ['what a package is found in', 'koffi', '..', 0o777],
  ])('does not start with %s', async (_, name, file, mode) => {
    const path = join(install(layout)(name), file)
    chmodSync(path, mode)
    expect(await serve()).toEqual({
      started: false,
      says: expect.stringContaining(`${JSON.stringify(path)} can be written`),
    })
  })
})

describe('serve, with links', () => {
  const mine = join(directory, 'somebodys')
  const hop = join(mine, 'hop')
  const link = join(directory, 'etc', 'link.yaml')
  beforeEach(() => {
    rmSync(mine, { recursive: true, force: true })
    mkdirSync(mine)
    symlinkSync(config, hop)
    symlinkSync('../somebodys/hop', link)
  })

  test('starts if all links are of root', async () => expect(await serve(link)).toMatchObject({ started: true }))

  test('does not start with a link in a directory of somebody else', async () => {
    chownSync(mine, SOMEBODY, SOMEBODY)
    expect(await serve(link)).toEqual({
      started: false,
      says: expect.stringContaining(`${JSON.stringify(mine)} belongs to user 1000`),
    })
  })

  test('does not start with a link of somebody else', async () => {
    lchownSync(hop, SOMEBODY, SOMEBODY)
    expect(await serve(link)).toEqual({
      started: false,
      says: expect.stringContaining(`${JSON.stringify(hop)} belongs to user 1000`),
    })
  })

  test('does not start with a way through a directory of somebody else and back', async () => {
    chownSync(mine, SOMEBODY, SOMEBODY)
    symlinkSync(join(directory, 'etc'), join(mine, 'back'))
    expect(await serve(`${mine}/back/../etc/config.yaml`)).toEqual({
      started: false,
      says: expect.stringContaining(`${JSON.stringify(mine)} belongs to user 1000`),
    })
  })
})

test('doctor names files that others can change, and run says so at the end', () => {
  chownSync(join(installed, 'dist'), SOMEBODY, SOMEBODY)
  expect(cli('doctor').stdout).toMatch(
    /NEEDED +intercede's own files: others could change what it runs: "[^"]*dist" belongs to user 1000/,
  )
  expect(cli('run', '--', 'true').stderr).toContain('intercede: others could change what it runs: ')
})

test('without a free descriptor it is not known who can change our files, which does not end the process', () => {
  cpSync(join(ROOT, 'out'), join(installed, 'out'), { recursive: true })
  const program = `
    import { openSync } from 'node:fs'
    const { openToOthers } = await import(${JSON.stringify(join(installed, 'out/doctor/own-files.js'))})
    const fds = []
    try { for (;;) fds.push(openSync('/dev/null')) } catch {}
    process.stdout.write(String(openToOthers()))`
  const args = ['--nofile=256', process.execPath, '--input-type=module', '--eval', program]
  const { stdout, stderr } = spawnSync('prlimit', args, { encoding: 'utf8' })
  expect(stdout + stderr).toMatch(/^it cannot find out who may change the files that it runs: EMFILE: [^\n]*$/)
})

test.each(['000', '002', '077'])(
  'code that is made under the umask %s is of files that others can read, and not change',
  async (umask) => {
    const [folder, made] = [join(installed, 'dist/cache'), join(installed, 'scripts')]
    cpSync(join(ROOT, 'scripts/code-cache.js'), join(made, 'code-cache.js'))
    rmSync(folder, { recursive: true })
    const line = `umask ${umask} && exec "$0" "$1"`
    const { status } = spawnSync('sh', ['-c', line, process.execPath, join(made, 'code-cache.js')], {
      stdio: 'inherit',
    })
    expect(status).toBe(0)
    const files = readdirSync(cache)
    expect(files).toContain('engine')
    const modes = [folder, cache, ...files.map((name) => join(cache, name))].map((path) => statSync(path).mode & 0o777)
    expect(modes).toEqual([0o755, 0o755, ...files.map(() => 0o644)])
    expect(await serve()).toMatchObject({ started: true })
  },
)

test('doctor looks at the configuration too, with which serve would not start', () => {
  // On an /etc of its own, which has the host's below it.
  const script = `mount -t tmpfs none "$1" && mkdir "$1/up" "$1/work" &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$1/up,workdir=$1/work" none /etc &&
    mkdir -p /etc/intercede && echo "$5" >/etc/intercede/config.yaml && chmod "$2" /etc/intercede/config.yaml && exec "$3" "$4" doctor`
  const place = mkdtempSync(join(tmpdir(), 'intercede-etc-'))
  const doctor = (mode: string, text = '{}'): string => {
    const words = [
      '--mount',
      'sh',
      '-c',
      script,
      'sh',
      place,
      mode,
      process.execPath,
      join(installed, 'bin/intercede.js'),
      text,
    ]
    return spawnSync('unshare', words, { encoding: 'utf8' }).stdout
  }
  try {
    expect(doctor('644')).toContain("ok       intercede's own files\n  ok       the configuration\n")
    expect(doctor('644', 'defautl: {}')).toMatch(
      /NEEDED {3}the configuration: Cannot read .*unknown key "defautl"[\s\S]*only intercede run can work here/,
    )
    expect(doctor('666')).toMatch(
      /NEEDED {3}intercede's own files: .*"\/etc\/intercede\/config.yaml" can be written by everybody/,
    )
  } finally {
    rmSync(place, { recursive: true })
  }
})
