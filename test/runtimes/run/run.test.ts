import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { cgroupOf, ended, hasRuntime, INTERCEDE, run, running, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { byUser } from '../../support/user.ts'

const noV1 = existsSync('/sys/fs/cgroup/memory/cgroup.procs') ? undefined : 'no cgroup v1'
const scratch = mkdtempSync(join(tmpdir(), 'intercede-run-'))
chmodSync(scratch, 0o755)
afterAll(() => rmSync(scratch, { recursive: true }))

describe.skipIf(unable()).each(['crun', 'runc'] as const)(withReason('intercede run with %s', unable()), (runtime) => {
  const wanted = ['--runtime', runtime]
  beforeEach(({ skip }) => {
    if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
  })

  test.each([
    { command: sh('exit 7'), status: 7 },
    { command: sh("sh -c 'kill -9 $$'"), status: 137 },
    { command: ['no-such-command'], status: 127 },
    { command: ['/etc/passwd'], status: 126 },
    { command: ['--workdir', '/nowhere/at/all', 'true'], status: 125 },
  ])('ends with $status after $command', ({ command, status }) => {
    expect(run([...wanted, ...command]).status).toBe(status)
  })

  test('kills at the end of the command what it has left running', () => {
    const time = `${3_000_000 + process.pid}`
    expect(run([...wanted, ...sh(`setsid sleep ${time} & exit 3`)]).status).toBe(3)
    expect(running(time)).toEqual([])
  })

  test('starts the command as whom, where and with what was asked for', () => {
    const options = ['--user', '5:6', '--workdir', '/tmp', '--env', 'A=b', '--env', 'PATH', '--name', 'web']
    const { stdout } = run([...wanted, ...options, ...sh('id -u; id -g; pwd; echo $A; echo $PATH; uname -n')])
    expect(stdout).toBe(`5\n6\n/tmp\nb\n${process.env.PATH}\nweb\n`)
  })

  test('lets root read files of root of the host with --expose-host only', () => {
    const reads = (...options: readonly string[]) =>
      run([...wanted, ...options, 'head', '-c', '1', '/etc/shadow']).status
    expect([reads(), reads('--expose-host')]).toEqual([1, 0])
  })

  test('has no network but its own, and that of the host with --net host', () => {
    const network = (...options: readonly string[]) =>
      run([...wanted, ...options, 'readlink', '/proc/self/ns/net']).stdout
    const ofHost = `${readlinkSync('/proc/self/ns/net')}\n`
    expect([network() === ofHost, network('--net', 'host') === ofHost]).toEqual([false, true])
    expect(run([...wanted, 'cat', '/proc/net/dev']).stdout.match(/\w+(?=:)/g)).toEqual(['lo'])
  })

  test('is root inside, and nobody outside', () => {
    const { stdout } = run([...wanted, ...sh('whoami; pwd; cat /proc/self/uid_map; cat /etc/shadow 2>&1')])
    expect(stdout).toMatch(/^root\n\/root\n +0 +[1-9]\d+ +65536\n.*Permission denied/)
  })

  test('leaves the host as it is', () => {
    const name = `intercede-test-${process.pid}`
    const { stdout } = run([
      ...wanted,
      ...sh(`echo x >/root/${name} && echo fresh; echo x >/usr/${name}; chmod 600 /dev/null`),
    ])
    expect(stdout).toBe('fresh\n')
    expect([`/root/${name}`, `/usr/${name}`].filter((path) => existsSync(path))).toEqual([])
  })

  test('gives large output whole, and ends the input', () => {
    const { stdout, status } = run([...wanted, 'head', '-c', '10000000', '/dev/zero'])
    expect([stdout.length, status]).toEqual([10_000_000, 0])
    const text = 'line\n'.repeat(200_000)
    expect(run([...wanted, 'cat'], text).stdout === text).toBe(true)
  })

  test('lets a command open its own output', () => {
    const { stdout, stderr } = run([...wanted, ...sh('echo out >/dev/stdout; echo err >/dev/stderr')])
    expect([stdout, stderr]).toEqual(['out\n', 'err\n'])
  })

  test('gives large output whole to a slow reader whose socket is its input too, as a service of systemd has it', () => {
    const reader = `socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, 0; my $pid = fork;
      if (!$pid) { open STDIN, '<&', $theirs; open STDOUT, '>&', $theirs; close $ours; exec @ARGV }
      close $theirs; sleep 1; my $read = 0; while (my $more = sysread $ours, my $bytes, 65536) { $read += $more }
      waitpid $pid, 0; print $read, ' ', $? >> 8`
    const words = [process.execPath, INTERCEDE, 'run', ...wanted, 'head', '-c', '3000000', '/dev/zero']
    const { stdout, stderr } = spawnSync('perl', ['-MSocket', '-e', reader, ...words], { encoding: 'utf8' })
    expect({ stdout, stderr }).toEqual({ stdout: '3000000 0', stderr: '' })
  })

  test('lets the container reach what was made for it, whatever mask the caller has', () => {
    const command = `node "${INTERCEDE}" run --runtime ${runtime} --bind "${scratch}:/made/for/it" -- sh -c 'ls -d /made/for/it/.; umask'`
    const { stdout, stderr } = spawnSync('sh', ['-c', `umask 077; ${command}`], { encoding: 'utf8' })
    expect({ stdout, stderr }).toEqual({ stdout: '/made/for/it/.\n0022\n', stderr: '' })
  })

  test('stops a command whose reader went away', () => {
    const { stdout } = spawnSync('sh', ['-c', `node "${INTERCEDE}" run --runtime ${runtime} yes | head -1`], {
      encoding: 'utf8',
      input: '',
      timeout: 30_000,
    })
    expect(stdout).toBe('y\n')
  })

  test.each([
    { what: 'ends well', script: 'echo hi', status: 125 },
    { what: 'fails', script: 'echo hi; exit 3', status: 3 },
    { what: 'goes on writing', script: 'exec yes', status: 141 },
  ])('says that there is no room for the output of a command that $what', ({ script, status }) => {
    const command = `node "${INTERCEDE}" run --runtime ${runtime} -- sh -c '${script}'`
    const { status: ended, stderr } = spawnSync('sh', ['-c', `${command} >/dev/full`], {
      encoding: 'utf8',
      timeout: 30_000,
    })
    expect({ ended, stderr }).toEqual({
      ended: status,
      stderr: expect.stringMatching(
        /^intercede: Cannot write the output of the command: ENOSPC: no space left on device, write; send it to a place that has room\n$/,
      ),
    })
  })

  test.each([
    {
      own: [],
      program: 'no-such',
      status: 127,
      says: /^intercede: Cannot execute "no-such": No such file or directory; /,
    },
    { own: [], program: '/etc', status: 126, says: /^intercede: Cannot execute "\/etc": Permission denied; / },
    { own: ['--no-init'], program: 'no-such', status: 127, says: /^intercede: Cannot execute "no-such": \w+ says: / },
    { own: ['--no-init'], program: '/etc/passwd', status: 126, says: /^intercede: Cannot execute "\/etc\/passwd": / },
    { own: ['--workdir', '/no/such'], program: 'true', status: 125, says: /^intercede: Cannot start the command: / },
  ])('$own says in one sentence that $program cannot start, with $status', ({ own, program, status, says }) => {
    const done = run([...wanted, ...own, program])
    expect(done).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(says) })
    expect(done.stderr.split('\n')).toHaveLength(2)
  })

  test.each([
    {
      script: 'printf "[FATAL tini (2)] exec sh failed: No\\n" >&2; exit 3',
      stderr: '[FATAL tini (2)] exec sh failed: No\n',
    },
    { script: 'printf "[FATAL tini (2)] exec sh failed: No\\n" >&2; echo more >&2', stderr: /^\[FATAL.*: No\nmore\n$/ },
    { script: 'printf "[" >&2', stderr: '[' },
  ])('passes on what a command says that speaks like the init: $script', ({ script, stderr }) => {
    expect(run([...wanted, 'sh', '-c', script]).stderr).toEqual(
      typeof stderr === 'string' ? stderr : expect.stringMatching(stderr),
    )
  })

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const)('passes %s on', async (signal) => {
    const trap = `trap "exit 9" ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`
    const child = await start([...wanted, ...sh(trap)])
    child.kill(signal)
    expect(await ended(child)).toBe(9)
    expect(cgroupOf(child.pid)).toEqual([])
  })

  test('kills at the second SIGTERM what ignores the first', async () => {
    const child = await start([...wanted, ...sh('trap "" TERM; echo ready; sleep 100')])
    child.kill('SIGTERM')
    await new Promise((resolve) => setTimeout(resolve, 200))
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(137)
    expect(cgroupOf(child.pid)).toEqual([])
  })

  test('removes what a killed run left, and not what still runs', async () => {
    const [killed, alive] = await Promise.all([1, 2].map(() => start([...wanted, ...sh('echo ready; cat; exit 3')])))
    killed?.kill('SIGKILL')
    await ended(killed!)
    expect(run([...wanted, 'true']).status).toBe(0)
    expect(cgroupOf(killed?.pid)).toEqual([])
    expect(cgroupOf(alive?.pid)).toHaveLength(1)
    alive?.stdin?.end()
    expect(await ended(alive!)).toBe(3)
  })

  test('has a terminal where we have one', () => {
    const command = `stty cols 91 rows 17; node "${INTERCEDE}" run --runtime ${runtime} -- sh -c 'tty; stty size; exit 5'`
    const { stdout, status } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', input: '' })
    // What script(1) types at the end of its own input is echoed somewhere in between.
    expect(stdout.replaceAll(/\^@|\0/g, '')).toContain('/dev/pts/0\r\n17 91\r\n')
    expect(status).toBe(5)
  })

  const noBusybox = missing('busybox')
  test.skipIf(noBusybox)(withReason('has a root of its own with --rootfs, whose files are its own', noBusybox), () => {
    const closed = join(scratch, runtime)
    const root = join(closed, 'root')
    mkdirSync(join(root, 'bin'), { recursive: true })
    copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'))
    symlinkSync('busybox', join(root, 'bin/sh'))
    const script = '/bin/busybox touch /made && /bin/busybox stat -c %u /bin/busybox; echo x >/dev/null'
    const refused = run([...wanted, '--rootfs', root, ...sh(script)])
    expect(refused).toMatchObject({
      status: 125,
      stderr: expect.stringContaining('users of the host other than root can reach it'),
    })
    chmodSync(closed, 0o700)
    expect(run([...wanted, '--rootfs', root, ...sh(script)])).toMatchObject({ stdout: '0\n', status: 0 })
    expect(statSync(join(root, 'made')).uid).toBe(0)
  })

  test('shows directories and devices that were asked for', () => {
    writeFileSync(join(scratch, 'file'), 'text')
    const bind = ['--bind', `${scratch}:/opt/new/place:ro`, '--device', '/dev/zero:/dev/sub/zero']
    const script = 'cat /opt/new/place/file; touch /opt/new/place/x 2>&1; head -c 3 /dev/sub/zero | wc -c'
    expect(run([...wanted, ...bind, ...sh(script)]).stdout).toMatch(/^texttouch: .*Read-only file system\n3\n$/)
  })

  test('limits memory', () => {
    expect(run([...wanted, '--memory', '40m', ...sh('head -c 200m /dev/zero | tail >/dev/null; echo $?')]).stdout).toBe(
      '137\n',
    )
  })

  test('limits memory and swap together', async () => {
    const child = await start([...wanted, '--memory', '40m', ...sh('echo ready; cat')])
    const groups = ['/sys/fs/cgroup', '/sys/fs/cgroup/memory'].map((at) => `${at}/intercede/${cgroupOf(child.pid)[0]}`)
    const swap = groups.flatMap((group) => [`${group}/memory.swap.max`, `${group}/memory.memsw.limit_in_bytes`])
    const limits = swap.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8').trim())
    child.stdin?.end()
    await ended(child)
    expect(limits.filter((limit) => limit !== '0' && limit !== `${40 * 2 ** 20}`)).toEqual([])
  })

  test('lets a command open as many files as programs expect, and more if it asks for that', () => {
    const [, hard] = /^Max open files +\S+ +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))!
    const { stdout } = run([...wanted, ...sh('ulimit -n; ulimit -H -n; ulimit -n $(ulimit -H -n) && ulimit -n')])
    expect(stdout).toBe(`${Math.min(1024, Number(hard))}\n${hard}\n${hard}\n`)
  })

  test('shows nothing of the service that it is', () => {
    const env = { NOTIFY_SOCKET: '/run/no-such', LISTEN_FDS: '1', LISTEN_PID: '1', LISTEN_FDNAMES: 'x' }
    const script = 'ls -d /run/systemd /run/notify; env | grep -E "^(NOTIFY|LISTEN)"'
    const words = [INTERCEDE, 'run', ...wanted, ...sh(script)]
    const { stdout } = spawnSync(process.execPath, words, {
      input: '',
      encoding: 'utf8',
      env: { ...process.env, ...env },
    })
    expect(stdout).toBe('')
  })

  test.skipIf(noV1)(withReason('does not wait for what another run left and nobody can end', noV1), async () => {
    const group = '/sys/fs/cgroup/memory/intercede/1-1'
    mkdirSync(group, { recursive: true })
    const child = spawn('sleep', ['60'])
    writeFileSync(`${group}/cgroup.procs`, `${child.pid}`)
    const from = Date.now()
    const { status, stderr } = run([...wanted, 'true'])
    const took = Date.now() - from
    child.kill('SIGKILL')
    await ended(child)
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringMatching(/^intercede: the control group \S+\/1-1 stays, /),
    })
    expect(took).toBeLessThan(2500)
    expect(run([...wanted, 'true'])).toMatchObject({ status: 0, stderr: '' })
  })

  test('bounds the cgroups that it makes', () => {
    const script =
      'mount -t cgroup2 none /mnt && cd /mnt && n=0; while mkdir $(printf "%0200d" 1) 2>/dev/null && cd $(printf "%0200d" 1); do n=$((n+1)); done; echo $n'
    const { stdout } = run([...wanted, ...sh(script)])
    // runc gives a container no cgroup to make others in.
    expect(Number(stdout)).toBeGreaterThan(runtime === 'crun' ? 3 : -1)
    expect(Number(stdout)).toBeLessThan(12)
  })

  test('lets a console be made, and does not open the one of the host', () => {
    const script = 'mknod c c 5 1 && stat -c %t:%T c; (: <>c) 2>/dev/null || echo closed'
    expect(run([...wanted, '-c', 'mknod', ...sh(script)]).stdout).toBe('5:1\nclosed\n')
  })

  test('makes the devices that -c allows, and says what it refused', () => {
    const script = 'mknod n c 1 3 && echo x >n && stat -c "%F %t:%T" n; mknod m c 1 1'
    const { stdout, stderr } = run([...wanted, '-c', 'mknod', ...sh(script)])
    expect(stdout).toBe('character special file 1:3\n')
    expect(stderr).toContain('the device 1:1 is not allowed')
    expect(run([...wanted, '--quiet', '-c', 'mknod', ...sh('mknod m c 1 1')]).stderr).not.toContain('is not allowed')
    expect(run([...wanted, ...sh('mknod n c 1 3')]).stderr).toContain('Operation not permitted')
  })
})

test('intercede run says that it needs root', () => {
  const { status, stderr } = spawnSync('unshare', byUser('run', 'true'), { encoding: 'utf8', input: '' })
  expect([status, stderr]).toEqual([125, 'intercede: Cannot run a container: not root: use sudo\n'])
})

test('intercede run leaves no mount in our namespace', () => {
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain('/run/intercede/run')
})
