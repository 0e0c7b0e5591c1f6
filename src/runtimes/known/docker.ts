import type { Target } from '../../filter/target.ts'
import { annotationsOf, dockerOptions, options } from '../flags.ts'
import type { Runtime } from '../runtime.ts'
import { runc } from './runc.ts'

/** Docker passes a profile unchanged to its runtime, by default runc. */
const target: Target = { ...runc.target, name: 'docker', resolvesGuards: true }

export const docker = {
  name: 'docker',
  target,
  instructions: {
    prints: 'options',
    target,
    directory: '/etc/intercede',
    ending: '.docker.json',
    prepared: [['/etc/docker/daemon.json', /"userns-remap"/]],
    flags(wanted) {
      const lines = [...dockerOptions(wanted), ...options('annotation', annotationsOf(wanted))]
      const remap =
        'Docker has user namespaces for all containers or none: "userns-remap": "default" in /etc/docker/daemon.json'
      return { lines, besides: wanted.prepared ? [] : [remap] }
    },
  },
  rootsIn: '/run/docker/runtime-runc',
} satisfies Runtime
