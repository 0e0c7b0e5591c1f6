// A bundle for a runtime inside of a container of `intercede run`: for tests of the device rules of nested containers.

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
import { type Ended, INTERCEDE, run } from './run-machine.ts'

/** A device that a container may be given, and that no runtime gives by itself. */
export const device = ['/dev/fuse', '/dev/kmsg', '/dev/loop-control'].find((path) => existsSync(path))
/** It tells what opens inside the nested container; the shell's own words tell why something does not. */
export const PROBE = `true </dev/null && echo null opens; true <${device} && echo device opens; true`
export const KEYS = ['-c', 'bpf', '-c', 'bpf.devices']

const CAPS = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SYS_ADMIN', 'CAP_KILL', 'CAP_SETUID', 'CAP_SETGID']

/** A container inside the container, which may open nothing but what every runtime adds. */
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

/** The bundle has `probe.json` and `sleep.json`, of which a script makes its config.json. */
export class NestedBundle {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-nested-'))

  constructor() {
    chmodSync(this.directory, 0o755)
    mkdirSync(join(this.directory, 'rootfs/bin'), { recursive: true })
    for (const name of ['dev', 'proc']) mkdirSync(join(this.directory, 'rootfs', name))
    copyFileSync('/bin/busybox', join(this.directory, 'rootfs/bin/busybox'))
    for (const name of ['sh', 'true', 'sleep', 'echo']) symlinkSync('busybox', join(this.directory, 'rootfs/bin', name))
    this.write('probe.json', config(['/bin/sh', '-c', PROBE]))
    this.write('sleep.json', config(['/bin/sleep', '60']))
  }

  write(name: string, content: object): void {
    writeFileSync(join(this.directory, name), JSON.stringify(content))
  }

  /** Runs a script in a container that has the device, a cgroup tree of its own and a copy of the bundle. */
  inside(keys: readonly string[], script: string, program = INTERCEDE): Ended {
    const given = ['--device', device!, '--bind', `${this.directory}:${this.directory}:ro`]
    const begins = `mount -t cgroup2 none /sys/fs/cgroup; cp -a ${this.directory} /root/bundle; cd /root/bundle`
    return run([...keys, ...given, '--', 'sh', '-ec', `${begins}; ${script}`], '', program)
  }

  remove(): void {
    rmSync(this.directory, { recursive: true })
  }
}
