import { annotationsOf, fuseDevice, ID_COUNT, options } from '../flags.ts'
import type { Runtime } from '../runtime.ts'
import { runc } from './runc.ts'

/** containerd with its client ctr, which passes a profile to runc unchanged. */
export const containerd = {
  name: 'containerd',
  instructions: {
    prints: 'options',
    target: runc.target,
    directory: '/etc/intercede',
    ending: '.containerd.json',
    takesFirstId: true,
    flags(wanted) {
      const ids = `0:${wanted.firstId}:${ID_COUNT}`
      const caps = wanted.caps.map((cap) => `CAP_${cap}`)
      const lines = [
        `--uidmap=${ids}`,
        `--gidmap=${ids}`,
        ...options('cap-add', caps),
        ...fuseDevice(wanted),
        ...wanted.files.map(({ source, target }) => `--mount=type=bind,src=${source},dst=${target},options=rbind:ro`),
        '--seccomp',
        `--seccomp-profile=${wanted.profile}`,
        ...options('annotation', annotationsOf(wanted)),
      ]
      return { lines, besides: [] }
    },
  },
  rootsIn: '/run/containerd/runc',
} satisfies Runtime
