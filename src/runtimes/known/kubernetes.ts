import { basename } from 'node:path'
import type { Runtime } from '../runtime.ts'
import { runc } from './runc.ts'

/** The directory in which the kubelet finds local profiles on a Pod's node; ours are in a subdirectory. */
const KUBELET_PROFILES = '/var/lib/kubelet/seccomp'
const KUBELET_FOLDER = 'intercede'

/** Formats a text as JSON, which is YAML too; the quotes keep "true" a text. */
const yaml = (text: string): string => JSON.stringify(text)

export const kubernetes = {
  name: 'kubernetes',
  instructions: {
    ...{ prints: 'lines', target: runc.target, directory: `${KUBELET_PROFILES}/${KUBELET_FOLDER}`, ending: '.json' },
    flags(wanted) {
      const local = `${KUBELET_FOLDER}/${basename(wanted.profile)}`
      const annotations = wanted.annotations.map(([key, value]) => `    ${key}: ${yaml(value)}`)
      const lines = [
        ...(annotations.length ? ['metadata:', '  annotations:', ...annotations] : []),
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
        ...(annotations.length
          ? [
              "annotations of a Pod only reach a container where containerd's pod_annotations or CRI-O's allowed_annotations list them",
            ]
          : []),
      ]
      return { lines, besides }
    },
  },
} satisfies Runtime
