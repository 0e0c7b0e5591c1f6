// npm run bench -- --cold [--rounds N] [--write-docs]: what people wait for is the start. Runs our commands, those of
// others and "node -e 0" in turn, each once a round, and prints medians as multiples of the latter in the same run.
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BASE, OWN_ENV } from './sides.js'

/** @typedef {{ name: string, command: readonly string[], status?: number, goal?: number, beside?: string, env?: Record<string, string> }} Start */
/** @typedef {{ name: string, ms: number, ratio: number, goal?: string, met?: boolean, beside?: string, more?: number }} ColdRow */

const MAIN = fileURLToPath(new URL('../bin/intercede.js', import.meta.url))
const NODE = 'node -e 0'
const RUN_MS = 60_000
const PROGRAM = '/usr/bin/true'

const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]
const isThere = (/** @type {string} */ program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0

/** @returns {Start} */
const ours = (/** @type {string} */ line, /** @type {number} */ goal, status = 0) => ({
  name: `intercede ${line}`,
  command: [process.execPath, MAIN, ...line.split(' ')],
  status,
  goal,
})

const commands = [
  ours('--version', 1.3),
  ours('--help', 1.3),
  ours('rnu', 1.3, 2),
  ours('flags podman -c mknod', 1.6),
  ours('profile -c mknod', 1.6),
  ours('run -- true', 2),
  ours('run -c mknod -- true', 3),
  ours('run -c mknod -- mknod null c 1 3', 3.3),
]

/** A root directory with one program and its libraries: copies, since the directory is removed at the end. */
function rootIn(/** @type {string} */ folder) {
  const root = join(folder, 'root')
  for (const name of ['proc', 'dev', 'sys', 'etc', 'run', 'tmp']) mkdirSync(join(root, name), { recursive: true })
  const libraries = execFileSync('ldd', [PROGRAM], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
  for (const path of [PROGRAM, ...libraries]) {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    copyFileSync(path, join(root, path))
  }
  // podman mounts files of its own on these.
  for (const name of ['etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'run/.containerenv'])
    writeFileSync(join(root, name), '')
  chownSync(root, BASE, BASE)
  return root
}

/** The file of a bundle for crun. */
const configuration = (/** @type {string} */ root, /** @type {object | undefined} */ seccomp) => ({
  ociVersion: '1.0.2',
  process: { user: { uid: 0, gid: 0 }, args: [PROGRAM], cwd: '/', env: ['PATH=/usr/bin'] },
  root: { path: root, readonly: true },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
  ],
  linux: {
    namespaces: ['pid', 'mount', 'ipc', 'uts', 'network', 'user'].map((type) => ({ type })),
    uidMappings: [{ containerID: 0, hostID: BASE, size: 65_536 }],
    gidMappings: [{ containerID: 0, hostID: BASE, size: 65_536 }],
    ...(seccomp && { seccomp }),
  },
})

/** @returns {Start} */
function crun(
  /** @type {string} */ folder,
  /** @type {string} */ root,
  /** @type {string} */ name,
  /** @type {object} */ more,
) {
  const bundle = join(folder, name.replaceAll(/\W+/g, '-'))
  mkdirSync(bundle)
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(configuration(root, more.seccomp)))
  const options = ['--root', join(folder, 'crun'), '--cgroup-manager=disabled']
  return { name, command: ['crun', ...options, 'run', '--bundle', bundle, `bench-${process.pid}`], ...more }
}

/** @returns {Start} */
const podman = (
  /** @type {string} */ folder,
  /** @type {string} */ root,
  /** @type {string} */ name,
  /** @type {readonly string[]} */ options,
) => ({
  name,
  // It leaves directories there.
  env: { TMPDIR: folder },
  command: [
    ...[
      'podman',
      '--root',
      join(folder, 'podman'),
      '--runroot',
      join(folder, 'podman-run'),
      '--cgroup-manager',
      'cgroupfs',
    ],
    ...[
      'run',
      '--rm',
      // Without it podman gives the container /dev/null, which crun makes its root the owner of.
      '--interactive',
      '--network',
      'none',
      '--cgroups',
      'disabled',
      '--uidmap',
      `0:${BASE}:65536`,
      '--gidmap',
      `0:${BASE}:65536`,
    ],
    ...[...options, '--rootfs', root, PROGRAM],
  ],
})

/** Those of others that are installed, and what our profile adds to the start of a container of theirs. */
function others(/** @type {string} */ folder, /** @type {string} */ socket) {
  // crun refuses a machine that has both versions of cgroups. This mount is one of the benchmark's own mount namespace.
  execFileSync('mount', ['-t', 'cgroup2', 'intercede-bench', '/sys/fs/cgroup'])
  const root = rootIn(folder)
  const file = join(folder, 'cold.json')
  execFileSync(process.execPath, [MAIN, 'profile', '-c', 'mknod', '--listener', socket, '--output', file])
  const seccomp = JSON.parse(readFileSync(file, 'utf8'))
  chmodSync(file, 0o644)
  const bwrap = ['--unshare-all', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', 'true']
  return [
    ...(isThere('crun')
      ? [
          crun(folder, root, 'crun run', {}),
          crun(folder, root, 'crun run with the profile and a daemon', { seccomp, beside: 'crun run' }),
        ]
      : []),
    ...(isThere('podman')
      ? [
          podman(folder, root, 'podman run', []),
          {
            ...podman(folder, root, 'podman run with the flags and a daemon', [
              '--security-opt',
              `seccomp=${file}`,
              '--cap-add',
              'MKNOD',
            ]),
            beside: 'podman run',
          },
        ]
      : []),
    ...(isThere('bwrap') ? [{ name: 'bwrap', command: ['bwrap', ...bwrap] }] : []),
  ]
}

/** @returns {number} milliseconds */
function time(/** @type {Start} */ { name, command: [program = '', ...args], status = 0, env }) {
  const start = performance.now()
  const done = spawnSync(program, args, {
    // Pipes, never /dev/null: crun makes the root of a container the owner of what it gets.
    stdio: 'pipe',
    input: '',
    cwd: '/',
    env: { ...OWN_ENV, ...env },
    timeout: RUN_MS,
    encoding: 'utf8',
  })
  const took = performance.now() - start
  if (done.status !== status)
    throw new Error(`Cannot measure "${name}": it ended with ${done.status ?? done.signal}: ${done.stderr}`)
  return took
}

/**
 * Measures all starts in turn; the first round is for the caches of the machine and does not count.
 *
 * @returns {ColdRow[]}
 */
function measureStarts(/** @type {readonly Start[]} */ starts, /** @type {number} */ rounds) {
  const all = [{ name: NODE, command: [process.execPath, '-e', '0'] }, ...starts]
  const samples = all.map(() => /** @type {number[]} */ ([]))
  for (let round = 0; round <= rounds; round++)
    for (const [at, start] of all.entries()) {
      const took = time(start)
      if (round > 0) samples[at]?.push(took)
    }
  // Both of a pair met the same mood of the machine in each round.
  const over = (
    /** @type {number} */ at,
    /** @type {number} */ other,
    /** @type {(a: number, b: number) => number} */ compare,
  ) => median(samples[at].map((took, round) => compare(took, samples[other][round])))
  return all.map(({ name, goal, beside }, at) => {
    const ratio = over(at, 0, (a, b) => a / b)
    const other = all.findIndex((each) => each.name === beside)
    return {
      ...{ name, ms: median(samples[at]), ratio, beside, goal: goal === undefined ? undefined : `${goal} N` },
      met: goal === undefined ? undefined : ratio <= goal,
      more: beside === undefined ? undefined : over(at, other, (a, b) => a - b),
    }
  })
}

export const coldTable = (/** @type {readonly ColdRow[]} */ rows) =>
  rows
    .map(({ name, ms, ratio, goal, met, beside, more }) => {
      const judged = goal === undefined ? '' : `  goal ${goal}: ${met ? 'met' : 'NOT met'}`
      const compared = more === undefined ? '' : `  ${more.toFixed(1)} ms more than ${beside}`
      return `  ${name.padEnd(42)} ${ms.toFixed(1).padStart(8)} ms ${ratio.toFixed(2).padStart(6)} N${judged}${compared}`
    })
    .join('\n')

/** Measures our commands, and those of others beside a daemon that listens at `socket`. */
export const cold = (/** @type {string} */ folder, /** @type {string} */ socket, /** @type {number} */ rounds) =>
  measureStarts([...commands, ...others(folder, socket)], rounds)

const CELLS = (/** @type {ColdRow} */ { name, ms, ratio, goal, met, beside, more }) => [
  /^(the|a|SIGKILL) /.test(name) ? name : `\`${name}\``,
  `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`,
  `${ratio.toFixed(2)} N`,
  goal === undefined ? '' : `${goal}: ${met ? '**met**' : '**not met**'}`,
  more === undefined ? '' : `${more.toFixed(1)} ms more than \`${beside}\``,
]

/** The section of docs/guide/performance.md; what stands before and after its marks stays as it is. */
export const coldSection = (
  /** @type {readonly ColdRow[]} */ rows,
  /** @type {Record<string, string | number>} */ facts,
) => `| start | median | ratio | goal | |
| --- | --- | --- | --- | --- |
${rows.map((row) => `| ${CELLS(row).join(' | ')} |`).join('\n')}

${Object.entries(facts)
  .map(([name, value]) => `${name} ${value}`)
  .join(', ')}`
