import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Maker } from '../../support/daemon.ts'
import { execute, until } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'

/** Shows a directory as /etc/intercede, in a mount namespace of the command's own. */
const WITHIN = `set -e
mount --make-rprivate /
mkdir -p "$ETC/over"
mount -t tmpfs none "$ETC/over"
mkdir -p "$ETC/over/upper/intercede" "$ETC/over/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$ETC/over/upper,workdir=$ETC/over/work" none /etc
mount --bind "$ETC/shown" /etc/intercede
exec "$@"`

let scratch: string
let daemon: ChildProcess | undefined
let said = ''

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'intercede-default-'))
  mkdirSync(join(scratch, 'etc/shown'), { recursive: true })
  said = ''
})
afterEach(async () => {
  const ended = new Promise((resolve) => daemon?.once('exit', resolve))
  if (daemon?.exitCode === null && daemon.signalCode === null) {
    daemon.kill('SIGTERM')
    await ended
  }
  daemon = undefined
  rmSync(scratch, { recursive: true })
})

const configure = (text: string): void => writeFileSync(join(scratch, 'etc/shown/config.yaml'), text)
const count = (text: string): number => said.split(text).length - 1

/** Starts the daemon without --config, unless that is given. */
async function serve(...options: readonly string[]): Promise<void> {
  const etc = join(scratch, 'etc')
  const command = [process.execPath, CLI, 'serve', '--socket', join(scratch, 's'), ...options]
  const words = ['--mount', 'sh', '-c', WITHIN, 'sh', ...command]
  daemon = spawn('unshare', words, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ETC: etc } })
  daemon.stderr!.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  await until(`the daemon serves: ${said}`, () => count('"serving"') === 1)
}

/** What the daemon warns of when it reads this. */
const INEFFECTIVE = 'default: { mount: true, mount.allowed: nosuchfs }\n'
const WARNING = 'this kernel does not know the file system'

test('serve reads /etc/intercede/config.yaml if it is there', async () => {
  configure(INEFFECTIVE)
  await serve()
  await until(`it warns: ${said}`, () => count(WARNING) === 1)
})

test('serve starts without it, and SIGHUP reads it once it is there, and again without it', async () => {
  await serve()
  expect(count('"configuration":"none: /etc/intercede/config.yaml is not there"')).toBe(1)
  configure(INEFFECTIVE)
  daemon!.kill('SIGHUP')
  await until(`it warns: ${said}`, () => count(WARNING) === 1)
  rmSync(join(scratch, 'etc/shown/config.yaml'))
  daemon!.kill('SIGHUP')
  await until(`it serves: ${said}`, () => count('"serving"') === 3)
  expect(count(WARNING)).toBe(1)
})

test('SIGHUP without a file that --config names says what to do, as the check does', async () => {
  const file = join(scratch, 'named.yaml')
  writeFileSync(file, '')
  await serve('--config', file)
  rmSync(file)
  daemon!.kill('SIGHUP')
  const says = `Cannot read configuration "${file}": it is not there; write it, even if empty, or name another file`
  await until(`it refuses: ${said}`, () => count(JSON.stringify(says).slice(1, -1)) === 1)
  const check = await execute(process.execPath, [CLI, 'serve', '--check-config', '--config', file])
  expect(check).toMatchObject({ status: 1, stderr: `intercede: ${says}\n` })
})

test('SIGHUP goes on as it is if the file that came is wrong, and says why', async () => {
  await serve()
  configure('defautl: {}\n')
  daemon!.kill('SIGHUP')
  await until(`it refuses: ${said}`, () => count('because the configuration is wrong; the old one stays') === 1)
  expect(said).toMatch(/config\.yaml.*unknown key.*defautl.*did you mean/)
  expect(daemon!.exitCode).toBeNull()
})

test('doctor says of it what a reload would refuse: a profile that a running container has', async () => {
  configure('profiles: { build: { mknod: true } }\n')
  await serve()
  chmodSync(scratch, 0o711)
  const directory = join(scratch, 'made')
  mkdirSync(directory)
  chmodSync(directory, 0o777)
  const maker = new Maker({ socket: join(scratch, 's'), directory }, ['--metadata', 'profile=build'])
  const doctor = async (): Promise<string> => {
    const words = [process.execPath, CLI, 'doctor', '--feed', join(scratch, 'feed.sock')]
    const env = { ...process.env, ETC: join(scratch, 'etc') }
    return (await execute('unshare', ['--mount', 'sh', '-c', WITHIN, 'sh', ...words], { env })).stdout
  }
  try {
    expect(await maker.make()).toBe('ok')
    expect(await doctor()).toMatch(/^ {2}ok +the configuration$/m)
    configure('profiles: { biuld: { mknod: true } }\n')
    expect(await doctor()).toMatch(
      /^ {2}NEEDED +the configuration: .*it has no profile "build", and 1 running container would lose it: .*"biuld"/m,
    )
  } finally {
    maker.end()
  }
})

test('serve --user and profile --user read that of the user', async () => {
  mkdirSync(join(scratch, 'intercede'))
  writeFileSync(join(scratch, 'intercede/config.yaml'), 'profiles: { mine: { sysinfo: true } }\n')
  const env = { ...process.env, XDG_CONFIG_HOME: scratch, XDG_RUNTIME_DIR: scratch }
  const intercede = (...args: readonly string[]) => execute(process.execPath, [CLI, ...args], { env })
  expect((await intercede('serve', '--user', '--check-config')).stdout).toContain('profile "mine":')
  expect((await intercede('serve', '--check-config')).stdout).not.toContain('profile "mine":')
  const { stdout } = await intercede('profile', '--user', '--profile', 'mine')
  expect(JSON.parse(stdout)).toMatchObject({
    listenerMetadata: 'profile=mine\n',
    listenerPath: join(scratch, 'intercede/oci.sock'),
  })
})
