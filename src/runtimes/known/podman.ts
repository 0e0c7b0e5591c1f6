import type { Target } from '../../filter/target.ts'
import { annotationsOf, fuseDevice, options, userDirectory } from '../flags.ts'
import type { Runtime } from '../runtime.ts'
import { crun } from './crun.ts'

/** podman 5.4.2 passes flags, listenerPath and listenerMetadata to its runtime, by default crun. */
const target: Target = { ...crun.target, name: 'podman', resolvesGuards: true }

export const podman = {
  name: 'podman',
  target,
  instructions: {
    prints: 'options',
    target,
    directory: '/etc/intercede',
    ending: '.json',
    userDirectory,
    base: '/usr/share/containers/seccomp.json',
    prepared: ['/etc/subuid', '/etc/subgid'].map((file) => [file, /^containers:/m] as const),
    flags(wanted) {
      const lines = [
        // Without it podman gives the container /dev/null of the host, and crun gives that to the container's root.
        ...(wanted.user ? [] : ['--interactive', '--userns=auto']),
        ...options('cap-add', wanted.caps),
        ...fuseDevice(wanted),
        `--security-opt=seccomp=${wanted.profile}`,
        ...options('annotation', annotationsOf(wanted)),
      ]
      const ids =
        '--userns=auto takes the ids of "containers" in /etc/subuid and /etc/subgid, and there are none yet; ' +
        'add them: echo containers:1000000000:1000000 | sudo tee -a /etc/subuid /etc/subgid'
      return { lines, besides: wanted.prepared ? [] : [ids] }
    },
  },
  installed: { label: 'podman', program: 'podman', packages: ['podman', 'crun'] },
} satisfies Runtime
