import { ID_COUNT } from '../flags.ts'
import type { Runtime } from '../runtime.ts'

export const lxc = {
  name: 'lxc',
  instructions: {
    prints: 'lines',
    target: undefined,
    directory: '/etc/intercede',
    ending: '.seccomp',
    takesFirstId: true,
    annotates: false,
    mountsFuse: false,
    base: '/usr/share/lxc/config/common.seccomp',
    flags(wanted) {
      const lines = [
        `lxc.idmap = u 0 ${wanted.firstId} ${ID_COUNT}`,
        `lxc.idmap = g 0 ${wanted.firstId} ${ID_COUNT}`,
        `lxc.seccomp.profile = ${wanted.profile}`,
        `lxc.seccomp.notify.proxy = unix:${wanted.listener ?? '/run/intercede/lxc.sock'}`,
        `lxc.seccomp.notify.cookie = ${wanted.metadata.join(';')}`,
      ]
      const caps = wanted.caps.map((cap) => cap.toLowerCase())
      const besides = [...(caps.length ? [`no lxc.cap.drop of the container may name ${caps.join(', ')}`] : [])]
      return { lines, besides }
    },
  },
  installed: { label: 'LXC', program: 'lxc-start', packages: ['lxc'] },
} satisfies Runtime
