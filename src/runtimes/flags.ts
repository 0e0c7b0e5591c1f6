import { basename } from 'node:path'
import type { Cap } from '../abi/capability.ts'

/** What a container must have for its keys to work; who writes it down for a runtime only spells it. */
export interface Wanted {
  readonly caps: readonly Cap[]
  /** The file of `intercede profile`. */
  readonly profile: string
  /** The policy, for a runtime whose file cannot hold it. */
  readonly keys: readonly string[]
  /** What the container's author says beyond the administrator's file. */
  readonly annotations: readonly (readonly [key: string, value: string])[]
  /** The first id of the host that the container gets, for runtimes that do not choose it themselves. */
  readonly firstId: number
  /** Does the machine give containers of this engine user namespaces? Only podman and Docker have to be told. */
  readonly prepared: boolean
  /** The container is one of a user, which has the user namespace of the daemon already. */
  readonly user: boolean
  /** Its FUSE programs need their device. */
  readonly fuse: boolean
  /** The socket of the daemon, if it is not the usual one; OCI runtimes have it from the profile. */
  readonly listener?: string | undefined
}

export interface Flags {
  /** Options, one a line, or the lines of a file. */
  readonly lines: readonly string[]
  /** What those lines cannot say, and must be so. */
  readonly besides: readonly string[]
}

/** Every user of a container but nobody (65534) and overflow fits in. */
const IDS = 65_536

const options = (name: string, values: readonly string[]): readonly string[] =>
  values.map((value) => `--${name}=${value}`)
const pairs = ({ annotations }: Wanted): readonly string[] => annotations.map(([key, value]) => `${key}=${value}`)

const device = ({ fuse }: Wanted): readonly string[] => (fuse ? ['--device=/dev/fuse'] : [])

function podman(wanted: Wanted): Flags {
  const lines = [
    ...(wanted.user ? [] : ['--userns=auto']),
    ...options('cap-add', wanted.caps),
    ...device(wanted),
    `--security-opt=seccomp=${wanted.profile}`,
    ...options('annotation', pairs(wanted)),
  ]
  const ids = '--userns=auto takes the ids of "containers" in /etc/subuid and /etc/subgid, and there are none yet'
  return { lines, besides: wanted.prepared ? [] : [ids] }
}

function docker(wanted: Wanted): Flags {
  const lines = [
    ...options('cap-add', wanted.caps),
    ...device(wanted),
    `--security-opt=seccomp=${wanted.profile}`,
    ...options('annotation', pairs(wanted)),
  ]
  const remap =
    'Docker has user namespaces for all containers or none: "userns-remap": "default" in /etc/docker/daemon.json'
  return { lines, besides: wanted.prepared ? [] : [remap] }
}

function containerd(wanted: Wanted): Flags {
  const ids = `0:${wanted.firstId}:${IDS}`
  const lines = [
    `--uidmap=${ids}`,
    `--gidmap=${ids}`,
    ...options(
      'cap-add',
      wanted.caps.map((cap) => `CAP_${cap}`),
    ),
    ...device(wanted),
    '--seccomp',
    `--seccomp-profile=${wanted.profile}`,
    ...options('annotation', pairs(wanted)),
  ]
  return { lines, besides: [] }
}

/** The kubelet finds local profiles here, on the node where the Pod runs; those of ours are in a folder of their own. */
export const KUBELET_PROFILES = '/var/lib/kubelet/seccomp'
export const KUBELET_FOLDER = 'intercede'

/** As JSON, which is YAML too: the quotes keep "true" a text. */
const yaml = (text: string): string => JSON.stringify(text)

function kubernetes(wanted: Wanted): Flags {
  const local = `${KUBELET_FOLDER}/${basename(wanted.profile)}`
  const lines = [
    ...(wanted.annotations.length
      ? ['metadata:', '  annotations:', ...wanted.annotations.map(([key, value]) => `    ${key}: ${yaml(value)}`)]
      : []),
    'spec:',
    '  hostUsers: false',
    '  containers:',
    '    - name: NAME',
    '      securityContext:',
    ...(wanted.caps.length ? [`        capabilities: { add: [${wanted.caps.join(', ')}] }`] : []),
    `        seccompProfile: { type: Localhost, localhostProfile: ${yaml(local)} }`,
  ]
  const besides = [
    `every node must have the profile as ${KUBELET_PROFILES}/${local}: the DaemonSet of deploy/kubernetes/ puts it there`,
    ...(wanted.fuse ? ['mount.fuse needs a device plugin that gives the container /dev/fuse'] : []),
    ...(wanted.annotations.length
      ? [
          "annotations of a Pod only reach a container where containerd's pod_annotations or CRI-O's allowed_annotations list them",
        ]
      : []),
  ]
  return { lines, besides }
}

function lxc(wanted: Wanted): Flags {
  const lines = [
    `lxc.idmap = u 0 ${wanted.firstId} ${IDS}`,
    `lxc.idmap = g 0 ${wanted.firstId} ${IDS}`,
    `lxc.seccomp.profile = ${wanted.profile}`,
    `lxc.seccomp.notify.proxy = unix:${wanted.listener ?? '/run/intercede/lxc.sock'}`,
    `lxc.seccomp.notify.cookie = ${wanted.keys.join(';')}`,
  ]
  const caps = wanted.caps.map((cap) => cap.toLowerCase())
  const besides = [
    ...(caps.length ? [`no lxc.cap.drop of the container may name ${caps.join(', ')}`] : []),
    ...(wanted.fuse ? ['mount.fuse is not served for LXC'] : []),
    ...(wanted.annotations.length ? ['LXC has no annotations: the cookie is all that the daemon sees'] : []),
  ]
  return { lines, besides }
}

/** How each runtime is told. */
export const engines = { podman, docker, lxc, containerd, kubernetes } as const satisfies Record<
  string,
  (wanted: Wanted) => Flags
>
export type Engine = keyof typeof engines
