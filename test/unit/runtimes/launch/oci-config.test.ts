import { expect, test } from 'vitest'
import { type ContainerSpec, ociConfig } from '../../../../src/runtimes/launch/oci-config.ts'

const spec: ContainerSpec = {
  name: 'x',
  args: ['true'],
  env: [],
  cwd: '/',
  user: { uid: 0, gid: 0 },
  terminal: false,
  root: '/r',
  ids: { uid: 1_000_000, gid: 2_000_000 },
  caps: ['MKNOD'],
  net: 'none',
  systemd: false,
  cgroupsPath: '/intercede/1-2',
  files: [],
  devices: [],
  memory: undefined,
  openFiles: 4096,
  seccomp: undefined,
}

test('ociConfig() maps the container to its own ids and keeps no capability that it was not given', () => {
  expect(ociConfig(spec)).toMatchObject({
    linux: {
      uidMappings: [{ containerID: 0, hostID: 1_000_000, size: 65_536 }],
      gidMappings: [{ containerID: 0, hostID: 2_000_000, size: 65_536 }],
    },
    process: { capabilities: { bounding: ['CAP_MKNOD'], effective: ['CAP_MKNOD'], permitted: ['CAP_MKNOD'] } },
  })
})

test.each([
  { openFiles: 4096, soft: 1024 },
  { openFiles: 20, soft: 20 },
])('ociConfig() lets a process open $soft files where it may open $openFiles', ({ openFiles, soft }) => {
  const rlimits = [{ type: 'RLIMIT_NOFILE', soft, hard: openFiles }]
  expect(ociConfig({ ...spec, openFiles })).toMatchObject({ process: { rlimits } })
})

test.each([
  { net: 'none' as const, hasNetwork: true, sys: 'sysfs' },
  { net: 'host' as const, hasNetwork: false, sys: 'none' },
])('ociConfig() with the network "$net"', ({ net, hasNetwork, sys }) => {
  const text = JSON.stringify(ociConfig({ ...spec, net }))
  expect(text.includes('{"type":"network"}')).toBe(hasNetwork)
  expect(text).toContain(`"destination":"/sys","type":"${sys}"`)
})

test('ociConfig() denies all devices first, and adds the given ones last', () => {
  const extra = { allow: true, type: 'c', major: 10, minor: 200, access: 'rwm' } as const
  const { linux } = ociConfig({ ...spec, devices: [extra], memory: 5 }) as {
    linux: { resources: { devices: object[]; memory: object } }
  }
  expect(linux.resources.devices[0]).toEqual({ allow: false, access: 'rwm' })
  expect(linux.resources.devices.at(-1)).toEqual(extra)
  expect(linux.resources.memory).toEqual({ limit: 5 })
})
