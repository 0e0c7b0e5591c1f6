// Writes an OCI bundle for a container of crun or runc on a `Machine`.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BASE, type Machine } from './machine.ts'

export interface BundleOptions {
  readonly id: string
  readonly args: readonly string[]
  /** The file of its profile. */
  readonly profile: string
  readonly capabilities: readonly string[]
  /** Rules beyond the runtime's own. */
  readonly devices?: readonly object[]
  /** A process whose user and pid namespaces it joins. */
  readonly joins?: number
}

/** Writes a bundle for a container over the machine's root file system, in a folder called as the container. */
export function writeBundle(
  machine: Machine,
  { id, args, profile, capabilities, devices, joins }: BundleOptions,
): string {
  const folder = join(machine.directory, id)
  mkdirSync(folder)
  const ids = [{ containerID: 0, hostID: BASE, size: 65_536 }]
  const sets = ['bounding', 'effective', 'permitted'].map((set) => [set, capabilities] as const)
  const spec = {
    ociVersion: '1.0.2',
    process: {
      ...{ user: { uid: 0, gid: 0 }, args, env: ['PATH=/bin'], cwd: '/' },
      capabilities: Object.fromEntries(sets),
    },
    root: { path: machine.rootfs },
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: {
      ...(joins === undefined ? { uidMappings: ids, gidMappings: ids } : {}),
      namespaces: [
        ...['mount', 'ipc', 'uts', 'cgroup'].map((type) => ({ type })),
        ...['pid', 'user'].map((type) =>
          joins === undefined ? { type } : { type, path: `/proc/${joins}/ns/${type}` },
        ),
      ],
      seccomp: JSON.parse(readFileSync(profile, 'utf8')),
      ...(devices ? { resources: { devices } } : {}),
    },
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(spec))
  return folder
}
