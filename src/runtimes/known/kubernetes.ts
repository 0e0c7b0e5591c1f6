import { basename } from 'node:path'
import { PREFIX } from '../../policy/key.ts'
import { inShort, type Wanted, yamlText } from '../flags.ts'
import type { Runtime } from '../runtime.ts'
import { runc } from './runc.ts'

/** The directory in which the kubelet finds local profiles on a Pod's node; ours are in a subdirectory. */
const KUBELET_PROFILES = '/var/lib/kubelet/seccomp'
const KUBELET_FOLDER = 'intercede'

/** The profiles of the ConfigMap in deploy/kubernetes/configuration.yaml, by their keys. */
export const WRITTEN: ReadonlyMap<string, string> = new Map([
  ['mknod', 'mknod'],
  ['setxattr', 'setxattr'],
  ['sched_setscheduler', 'sched'],
  ['sysinfo', 'sysinfo'],
  ['mount mount.allowed=ext4', 'mount'],
  ['bpf bpf.devices', 'bpf'],
])

/** Says how a profile comes to every node. */
function whence({ profile, metadata, onlyKeys }: Wanted): string {
  const [name, short] = [basename(profile, '.json'), inShort(metadata)]
  const every = `every node must have the profile as ${KUBELET_PROFILES}/${KUBELET_FOLDER}/${name}.json`
  // A line of the ConfigMap has keys and nothing else.
  if (!onlyKeys) return every
  if (WRITTEN.get(short) === name) return `${every}: the DaemonSet of deploy/kubernetes/ puts it there`
  return `${every}: add the line "${name} ${short}" to the profiles in deploy/kubernetes/configuration.yaml, from which the DaemonSet writes it`
}

export const kubernetes = {
  name: 'kubernetes',
  instructions: {
    prints: 'lines',
    target: runc.target,
    directory: `${KUBELET_PROFILES}/${KUBELET_FOLDER}`,
    ending: '.json',
    elsewhere: true,
    base: 'containerd',
    filter: 'RuntimeDefault',
    written: WRITTEN,
    flags(wanted) {
      const local = `${KUBELET_FOLDER}/${basename(wanted.profile)}`
      const annotations = wanted.annotations.map(([key, value]) => `    ${key}: ${yamlText(value)}`)
      const lines = [
        ...(annotations.length ? ['metadata:', '  annotations:', ...annotations] : []),
        'spec:',
        '  hostUsers: false',
        '  containers:',
        '    - name: NAME',
        '      securityContext:',
        ...(wanted.caps.length ? [`        capabilities: { add: [${wanted.caps.join(', ')}] }`] : []),
        `        seccompProfile: { type: Localhost, localhostProfile: ${yamlText(local)} }`,
      ]
      const besides = [
        whence(wanted),
        ...(wanted.fuse ? ['mount.fuse needs a device plugin that gives the container /dev/fuse'] : []),
        ...(wanted.metadata.includes(`${PREFIX}sysinfo=true`)
          ? ['free and top will show the node, except in the runtime class of deploy/kubernetes/lxcfs']
          : []),
        ...(annotations.length
          ? [
              'annotations of a Pod only reach a container of containerd where its pod_annotations list them; CRI-O passes them on by itself',
            ]
          : []),
      ]
      return { lines, besides }
    },
  },
} satisfies Runtime
