import { writeFileSync } from 'node:fs'
import type { Dev } from '../../abi/brand.ts'
import { formatProfile, type OciSeccomp } from '../../filter/oci.ts'
import { opensHost } from '../../policy/devices.ts'
import { type Cgroup, cgroupsPath } from './cgroup.ts'
import { ruleFor } from './devices.ts'
import { underInit } from './init.ts'
import { layout } from './layout.ts'
import { ociConfig } from './oci-config.ts'
import type { Plan } from './plan.ts'
import { consoleSize } from './raw-relay.ts'
import { ownBoundingSet } from './runtime.ts'

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const environment = (terminal: boolean, extra: readonly string[]): string[] => [
  `PATH=${PATH}`,
  'HOME=/root',
  'LANG=C.UTF-8',
  'container=intercede',
  ...(terminal ? [`TERM=${process.env.TERM ?? 'xterm'}`] : []),
  ...extra,
]

/** Returns those of the devices that may be made which may be opened too. */
const openable = (devices: Iterable<Dev>): Dev[] => [...devices].filter((dev) => !opensHost.has(dev))

const ROOT = { uid: 0, gid: 0 }

/** Formats as JSON with exact 64-bit numbers, which a seccomp filter has. */
const exactJson = (config: object): string => formatProfile(config as OciSeccomp)

/** Writes the bundle that the runtime reads. */
export function writeBundle(
  { options, runtime, init, ids, rootfs, devices }: Plan,
  cgroup: Cgroup,
  terminal: boolean,
): void {
  const { command, name = 'intercede', env = [], workdir, user = ROOT, net = 'none', policyDevices = [] } = options
  const config = ociConfig({
    name,
    args: init === undefined ? command : underInit(command),
    env: environment(terminal, env),
    cwd: workdir ?? (rootfs === undefined ? '/root' : '/'),
    user,
    terminal,
    consoleSize: terminal ? consoleSize() : undefined,
    root: layout.root,
    ids,
    caps: ownBoundingSet(),
    net,
    cgroupsPath: cgroupsPath(cgroup.name),
    devices: [...devices, ...openable(policyDevices).map((dev) => ({ kind: 'c' as const, dev }))].map(ruleFor),
    memory: cgroup.runtimeMemory,
    seccomp: options.seccomp?.(runtime.known.target),
  })
  writeFileSync(`${layout.bundle}/config.json`, exactJson(config))
}
