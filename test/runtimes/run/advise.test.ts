import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ended, INTERCEDE, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { Typist } from '../../support/typist.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'intercede-advise-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const advise = (...args: readonly string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [INTERCEDE, 'advise', ...args], { input: '', encoding: 'utf8', timeout: 60_000 })

interface Advice {
  readonly keys: Readonly<Record<string, string>>
  readonly capabilities: readonly string[]
  readonly optional: readonly { readonly key: string }[]
  readonly unused: readonly string[]
  readonly refused: readonly { readonly wants: { readonly key: string; readonly value: string } }[]
}
function adviceFor(...args: readonly string[]): Advice {
  const { status, stdout, stderr } = advise('--json', ...args)
  expect(stderr).toContain('both runs ended with 0')
  expect(status).toBe(0)
  return JSON.parse(stdout) as Advice
}

/**
 * Runs a container in the container, whose device rules refuse a device that is there. Where it cannot load them, crun
 * leaves them out in a user namespace, and says nothing.
 */
const FUSE = '{"destination":"/fuse","type":"bind","source":"/dev/fuse","options":["bind"]}'
const OPEN = 'if true </fuse; then exit 8; else exit 7; fi'
const NESTED = [
  'mkdir -p b/rootfs/bin; cp /usr/bin/busybox b/rootfs/bin/sh; cd b; crun spec >&2',
  `sed -i 's/"terminal": true/"terminal": false/; s|"sh"|"sh", "-c", "${OPEN}"|; s|"mounts": .|&${FUSE},|' config.json`,
  'crun --cgroup-manager=cgroupfs run c || test $? = 7',
].join('; ')

const NULL = 'mknod null c 1 3'
const TUN = 'mknod tun c 10 200'

const cannot = unable()
describe.skipIf(cannot)(withReason('intercede advise', cannot), () => {
  test.each([
    { what: 'a command that needs nothing', script: 'true', keys: {}, capabilities: [] },
    { what: 'a harmless device', script: NULL, keys: { mknod: 'true' }, capabilities: ['MKNOD'] },
    {
      what: 'a device that was given',
      config: ['mknod.devices=c:10:200,c:10:229'],
      script: `${NULL}; ${TUN}`,
      keys: { mknod: 'true', 'mknod.devices': 'c:10:200' },
      capabilities: ['MKNOD'],
    },
    {
      what: 'two priorities',
      script: 'chrt -f 20 true; chrt -r 7 true',
      keys: { sched_setscheduler: 'true', 'sched_setscheduler.max_priority': '20' },
      capabilities: ['SYS_NICE'],
    },
    {
      what: 'a nice value, and a class of I/O',
      script: 'nice -n -1 sh -c "[ \\$(nice) = -1 ]" && ionice -c 1 -n 2 sh -c "ionice | grep -q realtime"',
      keys: { sched_setscheduler: 'true', 'sched_setscheduler.min_nice': '-1', 'sched_setscheduler.ioprio': 'true' },
      capabilities: ['SYS_NICE'],
    },
    {
      what: 'an opaque directory',
      script: 'mkdir d; setfattr -n trusted.overlay.opaque -v y d',
      keys: { setxattr: 'true' },
      capabilities: ['SYS_ADMIN'],
    },
    {
      what: 'an opaque directory that is read again',
      script:
        'mkdir d; setfattr -n trusted.overlay.opaque -v y d; getfattr --only-values -n trusted.overlay.opaque d | grep -q y',
      keys: { setxattr: 'true', 'setxattr.read': 'true' },
      capabilities: ['SYS_ADMIN'],
    },
    {
      what: 'a file system of a list',
      config: ['mount.allowed=ext4,tmpfs', 'mount.nodev=false'],
      // On a tmpfs of the container's own, a node has ours mounted on it and cannot be removed.
      script: `mkdir m; mount -t tmpfs none m; ${NULL}; mknod m/null c 1 3; rm m/null`,
      keys: { mknod: 'true', mount: 'true', 'mount.allowed': 'tmpfs', 'mount.nodev': 'false' },
      capabilities: ['MKNOD', 'SYS_ADMIN'],
    },
    {
      what: 'a nested container with device rules',
      // Its control groups are writable.
      options: ['--systemd', '--device', '/dev/fuse'],
      script: NESTED,
      keys: { bpf: 'true', 'bpf.devices': 'true' },
      capabilities: ['SYS_ADMIN'],
    },
  ])('$what: all that is advised, and each key of it, is needed', ({ script, keys, capabilities, ...more }) => {
    const { config = [], options: given = [] } = more
    const words = [...given, ...sh(`set -e; cd; ${script}`)]
    const found = adviceFor(...config.flatMap((each) => ['-c', each]), ...words)
    expect(found).toMatchObject({ keys, capabilities })
    const isManner = (key: string): boolean => key === 'mount.nodev'
    for (const left of Object.keys(keys).filter((key) => !isManner(key))) {
      const others = Object.entries(keys).filter(([key]) => key !== left && !key.startsWith(`${left}.`))
      // The default of this one would be enough.
      if (left === 'sched_setscheduler.max_priority') others.push([left, '19'])
      const options = others.flatMap(([key, value]) => ['-c', `${key}=${value}`])
      expect(run([...options, ...words]).status, `without ${left}`).not.toBe(0)
    }
  })

  test('says what was refused and which key would allow it, what was given in vain, and what is optional', () => {
    const found = adviceFor('-c', 'mount.allowed=xfs', ...sh(`cd; ${TUN}; busybox free >/dev/null; true`))
    expect(found).toMatchObject({
      keys: {},
      unused: ['mount.allowed=xfs'],
      refused: [{ wants: { key: 'mknod.devices', value: 'c:10:200' } }],
      optional: [{ key: 'sysinfo' }],
    })
    const { stdout } = advise('-c', 'mount.allowed=xfs', ...sh(`cd; ${TUN}; busybox free >/dev/null; true`))
    expect(stdout).toMatch(/^No key was used\.\n/)
    expect(stdout).toMatch(/^Optional: sysinfo \(\d+ calls?\): report the memory/m)
    expect(stdout).toMatch(/^mknod mknod\.devices=c:10:200 +1 +mknodat\(AT_FDCWD, \S+, S_IFCHR\|0666, 10:200\) +more/m)
  })

  test('prints a command that works, with the options of the run, and writes a profile', () => {
    const file = join(directory, 'build.yaml')
    const options = ['--env', 'A=b c', '--net', 'host', '--write', file, '--profile', 'build']
    const { stdout, stderr, status } = advise(...options, ...sh(`cd; ${NULL}; test "$A" = "b c"; echo said`))
    expect(status).toBe(0)
    expect(stderr).toMatch(/^said$/m)
    expect(stdout).not.toMatch(/^said$/m)
    const line = /^intercede run .*$/m.exec(stdout)![0]
    expect(line).toContain("-c mknod --env 'A=b c' --net host -- sh -c")
    const again = spawnSync('sh', ['-c', `exec node "$0" ${line.slice('intercede '.length)}`, INTERCEDE], { input: '' })
    expect(again.status).toBe(0)
    expect(readFileSync(file, 'utf8')).toBe('profiles:\n  build:\n    security.syscalls.intercept.mknod: "true"\n')
    const config = spawnSync(process.execPath, [INTERCEDE, 'serve', '--check-config', '--config', file])
    expect(config.status).toBe(0)
    const twice = advise('--write', file, ...sh('true'))
    expect(twice).toMatchObject({ status: 125, stderr: expect.stringContaining(`Cannot write the profile "${file}"`) })
  })

  test('says how the second run differs, and exits with 1', () => {
    // A directory with the ids of the host must be below one that is closed.
    const shared = join(directory, 'shared')
    mkdirSync(shared)
    const flag = join(shared, 'flag')
    const script = `test -e /x/flag && exit 3; touch /x/flag; touch /root/once`
    const { status, stderr } = advise('--bind', `${shared}:/x:idmap`, ...sh(script))
    expect(existsSync(flag)).toBe(true)
    expect(status).toBe(1)
    expect(stderr).toMatch(
      /Cannot vouch for these keys: the second run differs: the command ended with 3 instead of 0; /,
    )
    expect(stderr).toMatch(/1 file not written again: \/root\/once/)
  })

  test.each([
    { what: 'a name that is not UTF-8', script: `touch "$(printf 'a\\377b')"` },
    { what: 'a tree deeper than any path', script: 'n=0; while [ $n -lt 2100 ]; do mkdir d; cd d; n=$((n+1)); done' },
    { what: 'links and a fifo', script: 'ln -s / l; ln -s l/etc m; mkfifo f; ln f g' },
  ])('compares what a command leaves: $what', ({ script }) => {
    const { status, stderr } = advise(...sh(`cd; ${script}`))
    expect(stderr).toMatch(/both runs ended with 0; the second was refused nothing new, and left the same names/)
    expect(status).toBe(0)
  })

  test('takes an errno for used that only a key gives, and says what no run was refused', () => {
    const { keys } = adviceFor(
      '-c',
      'mount.allowed=xfs',
      ...sh('cd; mkdir d; setfattr -x trusted.overlay.opaque d; true'),
    )
    expect(keys).toEqual({ setxattr: 'true', 'setxattr.read': 'true' })
  })

  test('says on Ctrl-C in a terminal what was used until then', async () => {
    const user = new Typist()
    user.type(`node "${INTERCEDE}" advise -- sh -c 'cd; ${NULL}; echo rea''dy; sleep 60'\n`)
    await user.sees(/ready/)
    user.type('\x03')
    const said = await user.sees(/interrupted: this is what was used until then/)
    expect(said).toMatch(/mknod +1 +mknodat/)
    user.hangUp()
  })

  test('says on SIGTERM what was used until then', async () => {
    const script = `cd; ${NULL}; echo ready >&2; sleep 60`
    const child = spawn(process.execPath, [INTERCEDE, 'advise', ...sh(script)], { stdio: ['pipe', 'pipe', 'pipe'] })
    let said = ''
    child.stdout.on('data', (data) => {
      said += data
    })
    await new Promise<void>((resolve) =>
      child.stderr.on('data', (data: Buffer) => data.toString().includes('ready') && resolve()),
    )
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(130)
    expect(said).toMatch(/^mknod +1 +mknodat/m)
  })

  test.each([
    { what: 'an unknown key', args: ['-c', 'mknodd', '--', 'true'], says: /unknown key .*did you mean/ },
    { what: 'observe mode', args: ['-c', 'mode=observe', '--', 'true'], says: /Cannot advise in observe mode/ },
    { what: 'an option of run that makes no sense', args: ['--rootfs', '/', '--', 'true'], says: /unknown option/ },
    { what: 'a bad value of an option of run', args: ['--memory', 'x', '--', 'true'], says: /must be a size/ },
    { what: 'no command', args: [], says: /give either a command, after "--", or --container/ },
  ])('refuses $what', ({ args, says }) => {
    const { status, stdout, stderr } = advise(...args)
    expect(stderr).toMatch(says)
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })
})
