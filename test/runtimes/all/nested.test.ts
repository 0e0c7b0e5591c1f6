import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Ended, hasRuntime, run, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

/** A device that a container may be given, and that no runtime gives by itself. */
const device = ['/dev/fuse', '/dev/kmsg', '/dev/loop-control'].find((path) => existsSync(path))
const why = unable() ?? (device ? undefined : 'this machine has no device to spare')
const KEYS = ['-c', 'bpf', '-c', 'bpf.devices']
const BPF = ['BPF_PROG_LOAD', 'BPF_PROG_ATTACH', 'BPF_PROG_QUERY', 'BPF_PROG_GET_FD_BY_ID']

const scratch = mkdtempSync(join(tmpdir(), 'intercede-nested-'))
chmodSync(scratch, 0o755)
afterAll(() => rmSync(scratch, { recursive: true }))

const CAPS = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SYS_ADMIN', 'CAP_KILL', 'CAP_SETUID', 'CAP_SETGID']
/** It tells what opens inside the nested container; the shell's own words tell why something does not. */
const PROBE = `true </dev/null && echo null opens; true <${device} && echo device opens; true`

/** The bundle of a container inside the container, which may open nothing but what every runtime adds. */
const config = (args: readonly string[]): object => ({
  ociVersion: '1.0.2',
  process: {
    user: { uid: 0, gid: 0 },
    args,
    env: ['PATH=/bin'],
    cwd: '/',
    capabilities: { bounding: CAPS, effective: CAPS, permitted: CAPS },
  },
  root: { path: 'rootfs' },
  hostname: 'nested',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    { destination: device, type: 'bind', source: device, options: ['bind'] },
  ],
  linux: {
    namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })),
    cgroupsPath: '/nested',
    resources: { devices: [{ allow: false, access: 'rwm' }] },
  },
})

beforeAll(() => {
  mkdirSync(join(scratch, 'rootfs/bin'), { recursive: true })
  for (const name of ['dev', 'proc']) mkdirSync(join(scratch, 'rootfs', name))
  copyFileSync('/bin/busybox', join(scratch, 'rootfs/bin/busybox'))
  for (const name of ['sh', 'true', 'sleep', 'echo']) symlinkSync('busybox', join(scratch, 'rootfs/bin', name))
  writeFileSync(join(scratch, 'probe.json'), JSON.stringify(config(['/bin/sh', '-c', PROBE])))
  writeFileSync(join(scratch, 'sleep.json'), JSON.stringify(config(['/bin/sleep', '60'])))
  const rules = [
    { allow: false, access: 'rwm' },
    { allow: true, access: 'rwm' },
  ]
  writeFileSync(join(scratch, 'rules.json'), JSON.stringify({ devices: rules }))
})

/** Runs a script in a container that has the device, a cgroup tree of its own and a bundle of its own. */
const inside = (keys: readonly string[], script: string): Ended =>
  run([
    ...keys,
    '--device',
    device!,
    '--bind',
    `${scratch}:${scratch}:ro`,
    '--',
    'sh',
    '-ec',
    `mount -t cgroup2 none /sys/fs/cgroup; cp -a ${scratch} /root/bundle; cd /root/bundle; ${script}`,
  ])

describe.skipIf(why)(withReason('a runtime inside of intercede run', why), () => {
  beforeEach(({ skip }) => {
    if (!hasRuntime('crun') && !hasRuntime('runc')) skip('no runtime is installed')
  })

  describe.each(['crun', 'runc'] as const)('%s', (runtime) => {
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })
    const nested = `cp probe.json config.json; ${runtime} run probe </dev/zero`

    test('rules the devices of its containers', () => {
      const { stdout, stderr } = inside(KEYS, nested)
      expect(stdout).toBe('null opens\n')
      expect(stderr).toMatch(`can't open ${device}: Operation not permitted`)
    })

    test('without the keys it starts them without any rules, and the same probe opens the device', () => {
      expect(inside([], nested).stdout).toBe('null opens\ndevice opens\n')
    })

    test('ends a container and leaves nothing of it', () => {
      const script = `cp sleep.json config.json
        ${runtime} run -d one </dev/zero >out 2>&1
        ${runtime} exec one /bin/sh -c '${PROBE}' 2>/dev/null
        ${runtime} delete -f one
        find /sys/fs/cgroup -mindepth 1 -type d
        ${runtime} run -d two </dev/zero >out 2>&1
        ${runtime} exec two /bin/sh -c '${PROBE}' 2>/dev/null
        ${runtime} delete -f two; find /sys/fs/cgroup -mindepth 1 -type d`
      expect(inside(KEYS, script).stdout).toBe('null opens\nnull opens\n')
    })
  })

  test('crun changes the rules of a container that runs: it finds the program, opens it by its number, replaces it', ({
    skip,
  }) => {
    if (!hasRuntime('crun')) skip('crun is not installed')
    const probe = `crun exec one /bin/sh -c '${PROBE}' 2>/dev/null`
    const script = `cp sleep.json config.json; crun run -d one </dev/zero >out 2>&1; ${probe}
      strace -f -e trace=bpf -o trace crun update -r rules.json one; ${probe}; crun delete -f one
      for call in ${BPF.join(' ')} BPF_F_REPLACE; do grep -q "$call.*= [0-9]" trace && echo $call; done`
    const { stdout } = inside(KEYS, script)
    expect(stdout.split('\n')).toEqual(['null opens', 'null opens', 'device opens', ...BPF, 'BPF_F_REPLACE', ''])
  })

  const SYSTEMD = '/usr/lib/systemd/systemd'
  test('systemd rules the devices of a service', ({ skip }) => {
    if (!existsSync(SYSTEMD)) skip('systemd is not installed')
    const unit = [
      ...['[Unit]', 'DefaultDependencies=no', 'SuccessAction=exit-force', 'FailureAction=exit-force'],
      ...['[Service]', 'Type=oneshot', 'DevicePolicy=closed'],
      `ExecStart=/bin/sh -c 'exec >/root/said 2>&1; ${PROBE}'`,
    ]
    const script = `mkdir -p /run/systemd/system; cp probe.service /run/systemd/system
      container=other timeout -s KILL 20 unshare --pid --fork --kill-child --mount-proc \
        ${SYSTEMD} --system --unit=probe.service </dev/zero >out 2>&1 || true
      cat /root/said`
    writeFileSync(join(scratch, 'probe.service'), unit.join('\n'))
    expect(inside(KEYS, script).stdout).toMatch(/^null opens\n.*Operation not permitted\n$/)
    expect(inside([], script).stdout).toBe('null opens\ndevice opens\n')
  })
})
