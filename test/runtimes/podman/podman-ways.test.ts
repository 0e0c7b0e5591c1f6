import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { FUSE_KEYS, installFuse, lacksFuse, MOUNT, MOUNTED } from '../../support/fuse-image.ts'
import { type Done, execute } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman, USUAL, writeProfile } from '../../support/podman.ts'
import { lacksLxcfs, withLxcfs } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const absent = missing('podman', 'crun', 'busybox', 'newuidmap') ?? lacksFuse()
const STOCK = '/usr/share/containers/seccomp.json'
const MAKES = 'mknod /tmp/n c 1 3 && stat -c %t:%T /tmp/n'

let machine: Machine
let podman: Podman
let profile: string
beforeAll(async () => {
  machine = new Machine()
  if (absent) return
  await machine.serve()
  await installFuse(machine)
  podman = await Podman.start(machine)
  profile = await writeProfile(machine, 'mknod.json', ['-c', 'mknod', '--runtime', 'podman', '--base', STOCK])
})
afterAll(async () => {
  await podman?.close()
  await machine.close()
})
afterEach(() => {
  delete process.env.CONTAINERS_CONF
})

/** A containers.conf for the commands that follow. */
function configure(lines: readonly string[]): void {
  process.env.CONTAINERS_CONF = join(machine.directory, 'containers.conf')
  writeFileSync(process.env.CONTAINERS_CONF, `[containers]\ncgroups = "disabled"\n${lines.join('\n')}\n`)
}

/** What docs/runtimes/podman.md tells to write. */
const CAPABILITIES =
  '["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]'

describe.skipIf(absent)(withReason('podman', absent), () => {
  test('run with what "intercede flags" prints', async () => {
    const done = await podman.run('run', ...USUAL, ...(await flagsFor('-c', 'mknod')), 'test', 'sh', '-c', MAKES)
    expect(done).toEqual({ status: 0, stdout: '1:3\n', stderr: '' })
  })

  test.each([
    { how: 'without -i', options: [] as readonly string[], owner: /^[1-9]\d* \d+\nlogged\nmissing the null device\n$/ },
    { how: 'as "intercede flags" says', options: ['--interactive'], owner: /^0 666\nok the null device\n$/ },
  ])('a container in the background, $how: whose /dev/null is then, and who says so', async ({ options, owner }) => {
    const own = join(machine.directory, 'own')
    const serve = `"${process.execPath}" "${CLI}" serve --socket ${own}/oci.sock`
    const script = `mkdir -p ${own}; ${serve} 2>${own}/log & served=$!
      until grep -q '"serving"' ${own}/log; do sleep 0.1; done
      "$@" >${own}/id 2>${own}/err </dev/null
      stat -c '%u %a' /dev/null
      for n in 1 2 3 4 5 6 7 8; do grep -q 'dev/null belongs to user' ${own}/log && echo logged && break; sleep 0.4; done
      "${process.execPath}" "${CLI}" doctor | grep -o -E '(ok|missing) +the null device' | tr -s ' '
      kill $served; wait`
    const words = [...USUAL, '-d', '--name', 'background', ...options, '--userns=auto', 'test', 'sleep', '1000']
    const done = await machine.run('bash', '-c', script, 'bash', ...podman.command('run', ...words))
    await podman.run('rm', '--force', '--time=0', 'background')
    expect(done.stdout, done.stderr).toMatch(owner)
  })

  test('run with what it prints for mount.fuse', async () => {
    const done = await podman.run('run', ...USUAL, ...(await flagsFor(...FUSE_KEYS)), 'test', 'sh', '-c', MOUNT)
    expect(done).toEqual({ status: 0, stdout: MOUNTED.map((line) => `${line}\n`).join(''), stderr: '' })
  })

  describe('over an overlay of storage.conf with nodev, as Debian has it', () => {
    const RULE = '--device-cgroup-rule=c 1:3 rwm'
    const PLAIN = '--storage-opt=overlay.mountopt='
    let overlay: Podman
    beforeAll(async () => {
      await execute('mknod', ['-m', '666', join(machine.rootfs, 'loop-control'), 'c', '10', '237'])
      overlay = await Podman.start(
        machine,
        ['--storage-driver=overlay', '--storage-opt=overlay.mountopt=nodev'],
        'over',
      )
    })
    afterAll(() => overlay.close())

    const shell = (more: readonly string[], script: string): Promise<Done> => {
      const options = [
        '--rm',
        '--network=none',
        '--userns=auto',
        '--cap-add=MKNOD',
        `--security-opt=seccomp=${profile}`,
      ]
      return overlay.run('run', ...options, ...more, 'test', 'sh', '-c', `PATH=/bin; ${script}`)
    }
    const makesAndRemoves =
      'mknod /null c 1 3 && echo x >/null && stat -c "%F %t:%T %a %u" /null; busybox rm /null 2>&1'

    test('the node works by a mount of ours, and rm says EBUSY', async () => {
      expect((await shell(['--cgroups=disabled'], makesAndRemoves)).stdout).toMatch(
        /^character special file 1:3 644 0\nrm: [^\n]*busy\n$/,
      )
    })

    test('with the options that "intercede flags podman" advises the node is plain, and rm removes it', async () => {
      const { stdout, stderr } = await shell([PLAIN, RULE, '--pids-limit=0'], makesAndRemoves)
      expect(stdout, stderr).toBe('character special file 1:3 644 0\n')
    })

    test('a build, which has device rules: the option removes nodes, opens none of the image, and keeps owners', async () => {
      const file = join(machine.directory, 'Containerfile')
      writeFileSync(
        file,
        `FROM test
RUN mknod /n c 1 3 && echo gone >/n && busybox rm -rf /n && echo removed
RUN busybox dd if=/loop-control count=0 2>&1; true
RUN busybox touch /kept\n`,
      )
      const args = ['podman-build', '-c', 'mknod', '--listener', machine.socket, '--write', machine.directory]
      const flags = (await execute(process.execPath, [CLI, ...['flags', ...args]])).stdout.trim().split('\n')
      // No limits that this machine may not raise.
      const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024']
      const options = ['--network=none', '--storage-opt=overlay.mountopt=', ...limits, ...flags]
      const built = await overlay.run('build', '--tag', 'built', ...options, '--file', file, machine.shared)
      expect(built.stdout, built.stderr).toMatch(/\nremoved\n[\s\S]*loop-control': Operation not permitted\n/)
      const { stdout } = await overlay.run(
        'run',
        '--rm',
        ...USUAL,
        'built',
        'stat',
        '-c',
        '%u',
        '/kept',
        '/bin/busybox',
      )
      expect(stdout).toBe('0\n0\n')
    })

    /** Why the rule must be there: docs/guide/builders.md. */
    test.each([
      { how: 'nodev alone', options: [], says: /Permission denied/ },
      { how: 'the rule alone', options: [PLAIN, RULE], says: /Operation not permitted/ },
      { how: 'neither', options: [PLAIN], says: /^0\+0 records in/ },
    ])("an image's own node of a device, with $how", async ({ options, says }) => {
      const { stdout, stderr } = await shell(
        ['--pids-limit=0', ...options],
        'busybox dd if=/loop-control count=0 2>&1; true',
      )
      expect(stdout, stderr).toMatch(says)
    })
  })

  const noProgram = missing('fuse-overlayfs')
  test.skipIf(noProgram)(
    withReason('over fuse-overlayfs a node is made where only its caller may write', noProgram),
    async () => {
      const storage = ['--storage-driver=overlay', '--storage-opt=overlay.mount_program=/usr/bin/fuse-overlayfs']
      const fuse = await Podman.start(machine, storage, 'fuse')
      try {
        const options = [...USUAL, '--userns=auto', '--cap-add=MKNOD', `--security-opt=seccomp=${profile}`]
        // The kernel makes the FIFO itself.
        const script =
          'mknod n c 1 3 && mknod p p && stat -c %t:%T n && echo x >n && stat -c "%A %u" . n p | busybox cut -b 2-'
        const both = `PATH=/bin; busybox mkdir -m 555 /closed; busybox chmod 555 /; (${script}); cd /closed; ${script}`
        const { stdout, stderr } = await fuse.run('run', ...options, 'test', 'sh', '-c', both)
        expect(stdout, stderr).toMatch(/^(1:3\nr-xr-xr-x 0\n(.* 0\n)\2){2}$/)
      } finally {
        await fuse.close()
      }
    },
  )

  const noLxcfs = lacksLxcfs()
  test.skipIf(noLxcfs)(withReason('run with the files of lxcfs that "intercede flags" prints', noLxcfs), async () => {
    const { directory, socket } = machine
    const flags = `"${process.execPath}" "${CLI}" flags podman -c sysinfo --listener ${socket} --write ${directory}`
    const volumes = `$(${flags} | grep -e --volume)`
    const script = "busybox awk '{ print $1 < 5 }' /proc/uptime; busybox grep -c fuse.lxcfs /proc/mounts"
    const run = podman.command('run', ...USUAL, '--interactive', '--userns=auto').join(' ')
    const line = `${run} ${volumes} test sh -c "$1"`
    const [program = '', ...words] = withLxcfs(directory, ['sh', '-c', line, 'sh', script])
    expect(await machine.run(program, ...words)).toEqual({ status: 0, stdout: '1\n8\n', stderr: '' })
  })

  test('run without an option, where containers.conf says it all', async () => {
    const run = (): Promise<Done> => podman.run('run', '--rm', '--network=none', 'test', 'sh', '-c', MAKES)
    configure([`seccomp_profile = "${profile}"`, 'userns = "auto"', `default_capabilities = ${CAPABILITIES}`])
    expect(await run()).toEqual({ status: 0, stdout: '1:3\n', stderr: '' })
    configure([`seccomp_profile = "${profile}"`, 'userns = "auto"'])
    expect(await run()).toMatchObject({ status: 1, stderr: expect.stringContaining('Operation not permitted') })
  })

  /** podman 5.4.2 does not look at securityContext.seccompProfile. */
  test('kube play, and exec in its container', async () => {
    configure([])
    const name = 'play'
    const annotations = { 'seccomp.security.alpha.kubernetes.io/pod': 'localhost/mknod.json' }
    const container = {
      ...{ name: 'one', image: 'test', imagePullPolicy: 'Never', command: ['sleep', '1000'] },
      securityContext: { capabilities: { add: ['MKNOD'] } },
    }
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, annotations }, spec: { containers: [container] } }
    writeFileSync(join(machine.directory, `${name}.yaml`), JSON.stringify(pod))
    const options = ['--userns=auto', '--network=none', '--seccomp-profile-root', machine.directory]
    const file = join(machine.directory, `${name}.yaml`)
    expect(await podman.leave('kube', 'play', ...options, file)).toBe(0)
    try {
      const done = await podman.run('exec', `${name}-one`, 'sh', '-c', MAKES)
      expect(done).toEqual({ status: 0, stdout: '1:3\n', stderr: '' })
    } finally {
      await podman.run('pod', 'rm', '--force', '--time=0', name)
    }
  })

  test('rootless: the socket is closed to a user, and the daemon does not take what a user hands over', async () => {
    cpSync(machine.rootfs, join(machine.directory, 'alice/rootfs'), { recursive: true, verbatimSymlinks: true })
    const refused = await alice(machine, profile)
    expect(refused).toMatchObject({ status: 126, stdout: '' })
    expect(refused.stderr).toMatch(/open seccomp receiver: connect socket to `.*\/oci\.sock`: Permission denied/)

    await execute('chmod', ['666', machine.socket])
    const unserved = await alice(machine, profile)
    expect(unserved.status).not.toBe(0)
    // It depends on who is faster: crun that still sends, or the daemon that closes.
    expect(unserved.stderr).toMatch(/send listener fd .* to receiver: Broken pipe|Function not implemented/)
    expect(machine.log.at(-1)).toMatchObject({
      level: 'warn',
      message: expect.stringMatching(/only root may hand over a listener, not user 1234/),
    })
  })
})

async function flagsFor(...keys: readonly string[]): Promise<readonly string[]> {
  const files = ['--listener', machine.socket, '--write', machine.directory, '--name', 'flags']
  const { stdout } = await execute(process.execPath, [CLI, 'flags', 'podman', ...keys, ...files])
  return stdout.trim().split('\n')
}

/**
 * Rootless podman of a user that is made for it, in the surroundings of the machine. It leaves a process behind that
 * holds its namespaces (`catatonit -P`), which ends with a pid namespace of its own.
 */
function alice(on: Machine, seccomp: string): Promise<Done> {
  const home = join(on.directory, 'alice')
  const script = `set -e
grep -q alice /etc/passwd || echo 'alice:x:1234:1234::${home}:/bin/sh' >>/etc/passwd
echo 'alice:x:1234:' >>/etc/group
echo 'alice:2000000:65536' | tee -a /etc/subuid >>/etc/subgid
mkdir -p ${home}/run && chown -R 1234:1234 ${home}
exec unshare --pid --fork --kill-child --mount-proc setpriv --reuid 1234 --regid 1234 --init-groups env -i PATH=/usr/bin:/bin:/usr/sbin HOME=${home} XDG_RUNTIME_DIR=${home}/run \
  podman --storage-driver vfs --runtime crun --cgroup-manager cgroupfs run ${USUAL.join(' ')} --security-opt seccomp=${seccomp} \
  --cap-add MKNOD --rootfs ${home}/rootfs mknod /tmp/n c 1 3`
  return on.run('sh', '-c', `cd / && ${script}`)
}
