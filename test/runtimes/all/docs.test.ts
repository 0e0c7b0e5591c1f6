import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { type Done, execute } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { asUser } from '../../support/user.ts'

const pages = fileURLToPath(new URL('../../../docs/runtimes/', import.meta.url))

/** What a page needs that Debian has; the commands of the others are not run: Kubernetes and Proxmox. */
const programs: Readonly<Record<string, readonly string[]>> = {
  'crun-runc.md': ['crun', 'runc', 'python3', 'busybox'],
  'podman.md': ['podman', 'crun', 'busybox'],
  '../guide/operating.md': ['podman', 'crun', 'busybox'],
  '../guide/policy-tests.md': [],
  '../guide/builders.md': ['podman', 'crun', 'busybox', 'buildah', 'podman-compose'],
  '../guide/mount-fuse.md': ['crun', 'fuse2fs', 'mkfs.ext4', 'mount'],
  'rootless.md': ['podman', 'crun', 'busybox', 'newuidmap', 'setfattr', 'chrt'],
  'containerd.md': ['containerd', 'ctr', 'runc', 'podman', 'busybox'],
  'docker.md': ['dockerd', 'docker', 'crun', 'runc', 'busybox'],
  'nested.md': ['podman', 'crun', 'busybox'],
  'lxc.md': ['lxc-start', 'newuidmap', 'busybox'],
}

interface Step {
  readonly commands: string
  /** What it prints, where the page shows that. */
  readonly prints?: string
}

/** "```sh test" is run; "```text test" after it is what it must print. */
function stepsOf(page: string): readonly Step[] {
  const text = readFileSync(join(pages, page), 'utf8')
  const steps: Step[] = []
  for (const [, kind, body] of text.matchAll(/^```(sh|text) test\n([\s\S]*?)^```$/gm)) {
    if (kind === 'sh') steps.push({ commands: body! })
    else steps.push({ ...steps.pop()!, prints: body! })
  }
  return steps
}

const MARK = '=== next step ==='

/**
 * A machine on which only root is at work: its /run and the state of engines are fresh and go with the mount namespace. The
 * engines are told what this machine lacks: controllers of cgroups, and a network.
 */
const SURROUNDINGS = `set -e
export PATH="$SCRATCH/tools:$PATH"
for folder in /run /var/lib/containers /var/lib/containerd /var/lib/docker /var/lib/lxc /var/lib/intercede; do mkdir -p $folder && mount -t tmpfs -o mode=755 none $folder; done
mkdir -p /etc/containers
printf '[containers]\\ncgroups = "disabled"\\nnetns = "none"\\n[engine]\\nruntime = "crun"\\ncgroup_manager = "cgroupfs"\\n' >/etc/containers/containers.conf
trap 'jobs -rp | xargs -r kill; wait' EXIT
cd "$SCRATCH/shared"
`

/** The same for a page whose reader is a user: the test's own settings are beside those of the page. */
const OF_USER = `set -e
export CONTAINERS_CONF_OVERRIDE="$HOME/test.conf"
printf '[containers]\\ncgroups = "disabled"\\nnetns = "none"\\n[engine]\\nruntime = "crun"\\ncgroup_manager = "cgroupfs"\\n' >"$HOME/test.conf"
`

/** The daemon is started by the page in the background; the next step needs its socket. */
const after = (run: string): string =>
  `case "$(jobs -r)" in *serve*) until [ -S ${run}/intercede/oci.sock ]; do sleep 0.1; done;; esac`

function scriptOf(steps: readonly Step[], before: string, run = '/run'): string {
  const parts = steps.map(({ commands }) => `${commands}\n${after(run)}\necho '${MARK}'\n`)
  // crun gives a container's root what podman passes on as its standard input: no page may lead there.
  return `${before}\necho '${MARK}'\n${parts.join('')}stat -c 'of %u, mode %a' /dev/null\n`
}

/** What a page takes for granted: a service that the package of Debian starts; and what it must not leave behind. */
const services: Readonly<Record<string, string>> = {
  'containerd.md': `containerd >"$SCRATCH/containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.1; done`,
  'docker.md': `cp /usr/local/share/intercede-tests/docker-seccomp.json default.json
dockerd --userns-remap default --add-runtime crun=/usr/bin/crun --iptables=false --ip6tables=false --bridge=none \\
  --storage-driver vfs >"$SCRATCH/dockerd.log" 2>&1 &
until docker version >/dev/null 2>&1; do sleep 0.1; done`,
  'podman.md': `trap 'podman rm --all --force --time 0 >/dev/null; jobs -rp | xargs -r kill; wait' EXIT`,
  '../guide/operating.md': `mkdir -p /etc/intercede image/bin image/tmp
printf 'profiles:\\n  build: { mknod: true }\\n' >/etc/intercede/config.yaml
cp /bin/busybox image/bin/
for name in sh mknod sleep; do ln -sf busybox image/bin/$name; done
tar -C image -c . | podman import --quiet - debian:13 >/dev/null
intercede serve 2>"$SCRATCH/serve.log" &
until [ -S /run/intercede/oci.sock ]; do sleep 0.1; done
grep -q ^containers: /etc/subuid || echo containers:1000000000:1000000 | tee -a /etc/subuid /etc/subgid >/dev/null
trap 'podman rm --all --force --time 0 >/dev/null; jobs -rp | xargs -r kill; wait' EXIT
podman run --detach --name build $(intercede flags podman --profile build --write) --workdir /tmp debian:13 sleep 1000 >/dev/null
`,
  '../guide/builders.md': `mkdir -p /etc/intercede image/bin image/run
printf 'profiles:\\n  build: { mknod: true }\\n' >/etc/intercede/config.yaml
printf '[storage]\\ndriver = "overlay"\\nrunroot = "/run/containers/storage"\\ngraphroot = "/var/lib/containers/storage"\\n[storage.options.overlay]\\nmountopt = "nodev"\\n' >/etc/containers/storage.conf
sed -i 's/^\\[containers\\]$/&\\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]/' /etc/containers/containers.conf
cp /bin/busybox image/bin/
for name in sh mkdir mknod rm stat; do ln -sf busybox image/bin/$name; done
tar -C image -c . | podman import --quiet - demo >/dev/null
intercede serve 2>"$SCRATCH/serve.log" &
until [ -S /run/intercede/oci.sock ]; do sleep 0.1; done
touch "$SCRATCH/begin"
trap 'podman rm --all --force --time 0 >/dev/null; jobs -rp | xargs -r kill; wait
  find /sys/fs/cgroup -maxdepth 1 -name "buildah-*" -newer "$SCRATCH/begin" -exec rmdir {} + 2>/dev/null || :' EXIT
`,
  'lxc.md': `trap 'lxc-ls --running -1 | xargs -r -n 1 lxc-stop --kill --name; jobs -rp | xargs -r kill; wait' EXIT`,
}

function tool(machine: Machine, name: string, line: string): void {
  const folder = join(machine.directory, 'tools')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), `#!/bin/sh\n${line} "$@"\n`)
  chmodSync(join(folder, name), 0o755)
}

/** As root, but for the page of a user. */
async function follow(machine: Machine, page: string, steps: readonly Step[]): Promise<Done> {
  if (page === 'rootless.md') return asUser(machine, scriptOf(steps, OF_USER, '$XDG_RUNTIME_DIR'))
  tool(machine, 'intercede', `exec "${process.execPath}" "${CLI}"`)
  tool(machine, 'sudo', 'exec')
  // netns of containers.conf is not for Pods: they would have a bridge of the machine.
  tool(machine, 'podman', '[ "$1 $2" != "kube play" ] || set -- "$@" --network=none; exec /usr/bin/podman')
  const file = join(machine.directory, 'page.sh')
  writeFileSync(file, scriptOf(steps, SURROUNDINGS + (services[page] ?? '')))
  return machine.run('timeout', '--kill-after=5', '100', 'bash', file)
}

/** The page whose output has ids and times in it. */
const VARYING = '../guide/operating.md'

/** What is another one each time, and what stands for it. The width of a column is that of the longest. */
const VARIES: readonly (readonly [what: RegExp, pattern: string])[] = [
  [/^[0-9a-f]{12}$/, '[0-9a-f]{12}'],
  [/^0x[0-9a-f]+$/, '0x[0-9a-f]+'],
  [/^\/[\w./-]*\/docs\/guide\/security\.md$/, '/.+/docs/guide/security\\.md'],
  [/^pid \d+$/, 'pid \\d+'],
  [/^\d+s ago$/, '\\d+[sm] ago'],
  [/^\d+us$/, '[\\d.]+(us|ms|s)'],
  [/^\d\d:\d\d:\d\d\.\d{3}$/, '\\d\\d:\\d\\d:\\d\\d\\.\\d{3}'],
  [/^<0\.\d{6}>$/, '<\\d+\\.\\d{6}>'],
  [/^ {2,}(\d{4,} {2,})?$/, ' {2,}'],
]
const PIECES = new RegExp(`(${VARIES.map(([{ source }]) => source.slice(1, -1).replaceAll('(', '(?:')).join('|')})`)

/** Returns what output must look like that is not the same each time. A number between columns is that of a process. */
function patternOf(prints: string): RegExp {
  const pieces = prints.split(PIECES).map((piece, index) => {
    if (index % 2 === 0) return piece.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
    const [, pattern] = VARIES.find(([what]) => what.test(piece))!
    return /\d/.test(piece) && pattern === ' {2,}' ? ' {2,}\\d+ {2,}' : pattern
  })
  return new RegExp(`^${pieces.join('')}$`)
}

describe.each(Object.entries(programs))('docs/runtimes/%s', (page, needed) => {
  const absent = missing(...needed)
  test.skipIf(absent)(withReason('does what it says', absent), async () => {
    const steps = stepsOf(page)
    expect(steps.length).toBeGreaterThan(2)
    const machine = new Machine()
    try {
      const done = await follow(machine, page, steps)
      expect({ status: done.status, steps: done.stdout.split(MARK).length, ...(done.status ? done : {}) }).toEqual({
        status: 0,
        steps: steps.length + 2,
      })
      const printed = done.stdout.split(`${MARK}\n`).slice(1)
      for (const [index, { commands, prints }] of steps.entries()) {
        if (prints === undefined) continue
        if (page === VARYING) expect(printed[index], commands).toMatch(patternOf(prints))
        else expect(printed[index], commands).toBe(prints)
      }
      expect(printed.at(-1)).toBe('of 0, mode 666\n')
    } finally {
      await machine.close()
    }
  })
})

test('README: after its "ln -s" the program is found and runs as sudo runs it', async () => {
  const line = 'sudo ln -s "$PWD/bin/intercede.js" /usr/local/bin/intercede'
  expect(readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')).toContain(`\n${line}\n`)
  const folder = mkdtempSync(join(tmpdir(), 'intercede-readme-'))
  try {
    symlinkSync(CLI, join(folder, 'intercede'))
    const path = `PATH=${folder}:${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`
    const { status, stdout, stderr } = await execute('env', ['-i', path, 'intercede', '--help'], { cwd: '/' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^Usage: intercede/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

const cannotRun = unable()
/** Of the terminal in the pictures, see scripts/picture.js. */
const COLUMNS = 98
/** The lines of a terminal in a picture, those that were too wide put together again. */
function shownIn(picture: string): readonly string[] {
  const svg = readFileSync(new URL(`../../../docs/${picture}`, import.meta.url), 'utf8')
  const lines = [...svg.matchAll(/<text [^>]*>(.*)<\/text>/g)].map(([, line]) =>
    line!
      .replaceAll(/<\/?tspan[^>]*>/g, '')
      .replaceAll('&gt;', '>')
      .replaceAll('&lt;', '<')
      .replaceAll('&amp;', '&'),
  )
  return lines
    .map((line) => (line.length === COLUMNS && !line.startsWith('$ ') ? line : `${line}\n`))
    .join('')
    .split(/^\$ intercede /m)
    .slice(1)
}

test.skipIf(cannotRun)(withReason('README: the commands of its picture print what it shows', cannotRun), async () => {
  const shown = shownIn('demo-light.svg')
  expect(shown).toHaveLength(3)
  expect(shownIn('demo-dark.svg')).toEqual(shown)
  for (const part of shown) {
    const [command, ...lines] = part.trimEnd().split('\n')
    const { stdout } = await execute('sh', ['-c', `exec 2>&1; "${process.execPath}" "${CLI}" ${command}`])
    expect(stdout.trimEnd(), command).toBe(lines.join('\n'))
  }
})

const withoutLxc = existsSync('/usr/share/lxc/config/common.seccomp') ? undefined : 'LXC is not installed'
test.skipIf(withoutLxc)(
  withReason('docs/runtimes/proxmox-lxc.md shows the lines that its commands add', withoutLxc),
  async () => {
    const page = readFileSync(join(pages, 'proxmox-lxc.md'), 'utf8')
    const [, commands] = /^(intercede flags lxc [\s\S]*?) \|\n {2}cat - \/etc\/pve/m.exec(page)!
    const [, added] = /^This adds:\n\n```\n([\s\S]*?)^```$/m.exec(page)!
    const machine = new Machine()
    try {
      tool(machine, 'intercede', `exec "${process.execPath}" "${CLI}"`)
      const here = `${SURROUNDINGS}mkdir -p /etc/intercede; echo 'profiles: { build: { mknod: true } }' >/etc/intercede/config.yaml`
      const { stdout, stderr } = await machine.run('bash', '-c', `${here}\n${commands}`)
      expect(stdout, stderr).toBe(added)
    } finally {
      await machine.close()
    }
  },
)

test('docs/runtimes/README.md says of which pages the commands are run', () => {
  const text = readFileSync(join(pages, 'README.md'), 'utf8')
  const pagesIn = (part: string): readonly string[] =>
    [...part.matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, page]) => page!)
  const [, others] = /^The tests run .*? on all pages\sexcept (.*?)\n\n/ms.exec(text)!
  const rows = text.match(/^\| \[.*$/gm)!.join('\n')
  const run = pagesIn(rows).filter((page) => !pagesIn(others!).includes(page))
  expect(run.sort()).toEqual(
    Object.keys(programs)
      .filter((page) => !page.startsWith('..'))
      .sort(),
  )
})

test('every page names only pages that exist', async () => {
  for (const page of readdirSync(pages)) {
    for (const [, link] of readFileSync(join(pages, page), 'utf8').matchAll(/\]\(([^):#]+)[^)]*\)/g)) {
      const { status } = await execute('test', ['-e', join(pages, link!)])
      expect(`${page} ${link} ${status}`).toBe(`${page} ${link} 0`)
    }
  }
})
