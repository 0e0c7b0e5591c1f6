import { basename } from 'node:path'
import { major, minor } from '../../abi/stat.ts'
import type { Target } from '../../filter/target.ts'
import {
  annotationsOf,
  dockerOptions,
  ID_COUNT,
  type Instructed,
  type NodevStorage,
  options,
  userDirectory,
  volumes,
  type Wanted,
  yamlText,
} from '../flags.ts'
import type { Runtime } from '../runtime.ts'
import { crun } from './crun.ts'
import { runc } from './runc.ts'

/** podman 5.4.2 passes flags, listenerPath and listenerMetadata to its runtime, by default crun. */
const target: Target = { ...crun.target, name: 'podman', resolvesGuards: true }

/** What podman, buildah and podman-compose have in common. */
const family = {
  target,
  directory: '/etc/intercede',
  ending: '.json',
  base: '/usr/share/containers/seccomp.json',
  prepared: ['/etc/subuid', '/etc/subgid'].map((file) => [file, /^containers:/m] as const),
} as const

/** The storage options of podman and buildah; the first of these files that is there counts. */
const STORAGE = ['/etc/containers/storage.conf', '/usr/share/containers/storage.conf']
const MOUNTOPT = /^[ \t]*mountopt[ \t]*=[ \t]*"([^"]*\bnodev\b[^"]*)"/m
/** Other options of the storage driver, if they have a value: `--storage-opt` replaces all of them. */
const OTHERS =
  /^[ \t]*(additional\w+|force_mask|ignore_chown_errors|inodes|mount_program|size|skip_mount_home|sync|use_composefs)[ \t]*=(?![ \t]*(""|\[\s*\]))/m

/**
 * Tells whether podman mounts the root of a container nodev: Debian and Fedora say so by default. Nodes then are mounts
 * of ours, which rm cannot remove.
 */
export function nodevStorage(read: (path: string) => string): NodevStorage | undefined {
  const text = STORAGE.map(read).find((found) => found !== '') ?? ''
  const without = MOUNTOPT.exec(text)?.[1]
    ?.split(',')
    .filter((option) => option.trim() !== 'nodev')
  return without && { without: without.join(','), isAlone: !OTHERS.test(text) }
}

/** What podman says about its runtime; the last of these files that names one counts. */
const CONTAINERS = '/etc/containers/containers.conf'
const RUNTIME = /^[ \t]*runtime[ \t]*=[ \t]*["']([^"']+)["']/m

/** Returns the reader of profiles where podman starts containers by runc; if no file says by what, it prefers crun. */
export function readerByRunc(
  read: (path: string) => string,
  list: (directory: string) => readonly string[],
  which: (program: string) => string | undefined,
): Target | undefined {
  const more = list(`${CONTAINERS}.d`).filter((name) => name.endsWith('.conf'))
  const files = [
    '/usr/share/containers/containers.conf',
    CONTAINERS,
    ...more.sort().map((name) => `${CONTAINERS}.d/${name}`),
  ]
  const engines = files.flatMap((file) =>
    read(file)
      .split(/^[ \t]*\[/m)
      .filter((text) => text.startsWith('engine]')),
  )
  const named = engines.flatMap((text) => RUNTIME.exec(text)?.[1] ?? []).at(-1)
  const usual = which(crun.name) === undefined && which(runc.name) !== undefined ? runc.name : crun.name
  return basename(named ?? usual) === runc.name ? { ...target, program: runc.name } : undefined
}

const flagged =
  'podman starts containers by runc here, and this profile is for crun: let crun start them (runtime = "crun" in ' +
  `[engine] of ${CONTAINERS}), or make the profile by "intercede profile --runtime runc"`

/** The variable that leaves nodev out and keeps all other options. It separates options by commas. */
const variable = ({ without }: NodevStorage): string =>
  `STORAGE_OPTS=overlay.mountopt=${without.includes(',') ? '' : without}`

/**
 * Device rules for the nodes that a container may make. With at least one, crun closes all other nodes, such as those
 * that come with an image. With the cgroup manager cgroupfs, podman 5.4.2 gives a container with a user namespace no
 * rules at all; with systemd the scope of the container has DevicePolicy=strict.
 */
const rules = ({ devices }: Wanted): readonly string[] =>
  devices.length > 0 ? devices.map((dev) => `c ${major(dev)}:${minor(dev)} rwm`) : ['c 1:3 rwm']

const cannotRemove = 'rm cannot remove nodes, since podman mounts the root of a container nodev; it can with'

/** How rm can remove nodes of `podman run`. In `$(...)` the shell would split the rules. */
function adviceForRun(wanted: Wanted): readonly string[] {
  const { nodev } = wanted
  if (nodev === undefined) return []
  const quoted = rules(wanted).map((rule) => `--device-cgroup-rule='${rule}'`)
  const storage = nodev.isAlone
    ? `--storage-opt=overlay.mountopt=${nodev.without}`
    : `${variable(nodev)} in the environment and`
  return [`${cannotRemove} ${[storage, ...quoted].join(' ')}`]
}

const ids =
  '--userns=auto takes the ids of "containers" in /etc/subuid and /etc/subgid, and there are none yet; ' +
  'add them: echo containers:1000000000:1000000 | sudo tee -a /etc/subuid /etc/subgid'

/** What the machine lacks. */
const lacks = ({ prepared, byRunc }: Wanted): readonly string[] => [
  ...(prepared ? [] : [ids]),
  ...(byRunc ? [flagged] : []),
]

export const podman = {
  name: 'podman',
  target,
  instructions: {
    ...family,
    prints: 'options',
    userDirectory,
    flags(wanted) {
      const lines = [
        // Without it podman gives the container /dev/null of the host, and crun gives that to the container's root.
        ...(wanted.user ? [] : ['--interactive', '--userns=auto']),
        ...dockerOptions(wanted),
        ...options('annotation', annotationsOf(wanted)),
      ]
      return { lines, besides: lacks(wanted), advice: adviceForRun(wanted) }
    },
  },
  installed: { label: 'podman', program: 'podman', packages: ['podman', 'crun'] },
} satisfies Runtime

/** `podman build` and `buildah build` run each RUN of a Containerfile in a container of their own. */
const builder = (name: string, squash: string): Instructed => ({
  name,
  instructions: {
    ...family,
    prints: 'options',
    annotates: false,
    flags(wanted) {
      const { nodev } = wanted
      const lines = [
        // With another isolation there is no runtime that hands a listener over.
        '--isolation=oci',
        // Without a size there are 1,024 ids, too few for the owners in most images.
        `--userns=auto:size=${ID_COUNT}`,
        // podman 5.4.2 and buildah 1.39.3 store layers with ids of the host, except when they put all into one layer.
        squash,
        ...dockerOptions(wanted),
        // Device rules, which every build has, keep the nodes of images closed then.
        ...(nodev?.isAlone ? [`--storage-opt=overlay.mountopt=${nodev.without}`] : []),
      ]
      const advice = nodev && !nodev.isAlone ? [`${cannotRemove} ${variable(nodev)} in the environment`] : []
      return { lines, besides: [...lacks(wanted), ...advice] }
    },
  },
})

/** podman-compose, which starts each service by `podman run`. */
const compose: Instructed = {
  name: 'compose',
  instructions: {
    ...family,
    prints: 'lines',
    flags(wanted) {
      const { nodev } = wanted
      const list = (values: readonly string[]): string => `[${values.map(yamlText).join(', ')}]`
      const annotations = wanted.annotations.map(([key, value]) => `      ${key}: ${yamlText(value)}`)
      const lines = [
        // podman gives no container of a pod a user namespace of its own.
        'x-podman: { in_pod: false }',
        'services:',
        '  NAME:',
        '    userns_mode: auto',
        '    stdin_open: true',
        ...(wanted.caps.length ? [`    cap_add: [${wanted.caps.join(', ')}]`] : []),
        ...(wanted.fuse ? ['    devices: [/dev/fuse]'] : []),
        ...(wanted.files.length ? ['    volumes:', ...volumes(wanted).map((text) => `      - ${yamlText(text)}`)] : []),
        `    security_opt: ${list([`seccomp=${wanted.profile}`])}`,
        ...(nodev ? [`    device_cgroup_rules: ${list(rules(wanted))}`] : []),
        ...(annotations.length ? ['    annotations:', ...annotations] : []),
      ]
      const advice = nodev ? [`${cannotRemove} ${variable(nodev)} in the environment of podman-compose`] : []
      return { lines, besides: [...lacks(wanted), ...advice] }
    },
  },
}

/** What starts containers by way of podman or its libraries, and is told so in other words. */
export const podmanTools: readonly Instructed[] = [
  builder('podman-build', '--squash-all'),
  builder('buildah', '--squash'),
  compose,
]
