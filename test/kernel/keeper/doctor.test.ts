import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Report } from '../../../src/doctor/doctor.ts'
import { execute, Host } from '../../support/host.ts'
import { byUser } from '../../support/user.ts'

// In a process of its own: the probes put a filter on the thread that asks.
const main = fileURLToPath(new URL('../../../bin/intercede.js', import.meta.url))
const doctor = (before: readonly string[] = []) => {
  const [program, ...args] = [...before, process.execPath, main, 'doctor', '--json']
  const { status, stdout } = spawnSync(program!, args, { encoding: 'utf8' })
  return { status, report: JSON.parse(stdout) as Report }
}
const health = ({ diagnoses }: Report, name: RegExp) =>
  diagnoses.filter((one) => name.test(one.name)).map((one) => one.health)

test('doctor finds user notification on this kernel, and its exit status says whether all that is needed is there', () => {
  const { status, report } = doctor()
  expect(health(report, /^seccomp user notification$/)).toEqual(['ok'])
  expect(report.diagnoses.filter((one) => one.health === 'unknown')).toEqual([])
  expect(status).toBe(report.able ? 0 : 1)
})

test('doctor names the capabilities that a narrowed process lacks', () => {
  const { status, report } = doctor(['setpriv', '--bounding-set', '-mknod', '--inh-caps', '-mknod'])
  expect(status).toBe(1)
  expect(report.diagnoses).toContainEqual(
    expect.objectContaining({
      name: 'capabilities of this process',
      health: 'missing',
      found: expect.stringContaining('CAP_MKNOD'),
    }),
  )
})

test('doctor without root says that it cannot tell', async () => {
  const said = await execute('unshare', byUser('doctor'))
  // podman, which was asked for its version.
  rmSync('/tmp/storage-run-1234', { recursive: true, force: true })
  expect(said).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/\nthis process cannot tell .*: run .* as root.*\n$/),
  })
})

test('doctor in a chroot says that no container can be started there', () => {
  const root = mkdtempSync(join(tmpdir(), 'intercede-chroot-'))
  const enter = 'mount --make-rprivate / && mount --rbind / "$0" && exec chroot "$0" "$@"'
  const { status, report } = doctor(['unshare', '--mount', 'sh', '-c', enter, root])
  rmdirSync(root)
  expect(status).toBe(1)
  expect(report.diagnoses).toContainEqual(
    expect.objectContaining({
      ...{ name: 'user namespaces', health: 'missing', needed: true },
      found: expect.stringContaining('none can be made here'),
      remedy: expect.stringContaining('chroot'),
    }),
  )
})

describe('doctor --bundle', () => {
  let directory: string
  let archive: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'intercede-bundle-'))
    archive = join(directory, 'b.tar')
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  const bundle = (words: readonly string[], within: readonly string[] = []) => {
    const [program, ...args] = [...within, process.execPath, main, 'doctor', '--bundle', archive, ...words]
    // The keeper is in this process, so it must not wait here.
    return execute(program!, args, { env: { ...process.env, TOKEN: 'a-secret-of-the-environment' } })
  }

  test('lists what it collects, and writes it to a new file that only its owner may read', async () => {
    const host = await Host.start()
    try {
      const path = join(host.directory, 'x\x1b[31m')
      expect(await host.call(['mknod', path, '020666', '1', '1'])).toMatchObject({ result: 'EPERM' })
      const { status, stdout, stderr } = await bundle(['--feed', host.feedSocket])
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(statSync(archive).mode & 0o777).toBe(0o600)
      spawnSync('tar', ['-x', '-f', archive, '-C', directory])
      const names = readdirSync(join(directory, 'intercede'))
      for (const name of names) expect(stdout).toMatch(new RegExp(`^${name} +\\d+ +\\w`, 'm'))
      expect(names.map((name) => name.replace(/\.missing$/, '')).sort()).toEqual([
        ...['config.yaml', 'containers.json', 'doctor.json', 'events.jsonl', 'kernel.txt', 'log.jsonl', 'mounts.txt'],
        ...['units.txt', 'versions.txt'],
      ])
      const read = (name: string): string => readFileSync(join(directory, 'intercede', name), 'utf8')
      expect((JSON.parse(read('doctor.json')) as Report).kernel).toMatch(/^\d/)
      expect(read('events.jsonl')).toMatch(/"call":"mknod\(.*deviceNotAllowed/)
      expect(read('versions.txt')).toMatch(/^intercede \d.*\n# \/proc\/version\nLinux/)
      expect(read('mounts.txt')).toMatch(/^\d+ \d+ \d+:\d+ \/ \S+ \S+ .*- \w+$/m)
      const all = readFileSync(archive, 'latin1')
      expect(all).not.toContain('a-secret-of-the-environment')
      expect(all).not.toContain('\x1b')
    } finally {
      host.close()
    }
  })

  test('says in the archive what could not be collected, and why', async () => {
    expect((await bundle(['--feed', join(directory, 'none')])).status).toBe(0)
    const { stdout } = spawnSync('tar', ['-x', '-O', '-f', archive, 'intercede/containers.json.missing'], {
      encoding: 'utf8',
    })
    expect(stdout).toMatch(/^Cannot read ".*none": there is no such socket/)
  })

  test('does not take a journal that it may not read for an empty one', async () => {
    writeFileSync(join(directory, 'journalctl'), '#!/bin/sh\n', { mode: 0o755 })
    const path = `PATH=${directory}:${process.env.PATH}`
    expect((await bundle(['--feed', join(directory, 'none')], ['env', path])).status).toBe(0)
    const words = ['-x', '-O', '-f', archive, 'intercede/log.jsonl.missing']
    expect(spawnSync('tar', words, { encoding: 'utf8' }).stdout).toMatch(/^The journal shows no line.*only root may/)
  })

  test('a name that is taken stays as it is, a link to nothing too', async () => {
    writeFileSync(archive, 'mine')
    expect(await bundle([])).toMatchObject({
      status: 125,
      stderr: expect.stringMatching(/it already exists; name a new file/),
    })
    expect(readFileSync(archive, 'utf8')).toBe('mine')
    rmSync(archive)
    symlinkSync(join(directory, 'elsewhere'), archive)
    expect(await bundle([])).toMatchObject({ status: 125, stderr: expect.stringMatching(/EEXIST/) })
    expect(existsSync(join(directory, 'elsewhere'))).toBe(false)
  })

  test('where there is no such directory it says so', async () => {
    archive = join(directory, 'none/b.tar')
    const { status, stderr } = await bundle([])
    expect({ status, stderr }).toEqual({
      status: 125,
      stderr: expect.stringMatching(/^intercede: Cannot write ".*none/),
    })
    expect(stderr).toContain('name a new file on a file system that has room')
  })

  test('where there is no room nothing is left', async () => {
    const { status, stderr } = await bundle([], ['prlimit', '--fsize=4096'])
    expect({ status, stderr }).toEqual({ status: 125, stderr: expect.stringMatching(/EFBIG/) })
    expect(readdirSync(directory)).toEqual([])
  })

  test.each([
    [['--json'], /Cannot use --format json with --bundle/],
    [['--format', 'json'], /Cannot use --format json with --bundle/],
  ])('%j is refused', async (words, says) => {
    expect(await bundle(words)).toMatchObject({ status: 2, stderr: expect.stringMatching(says) })
  })
})
