// npm run guests -- [--kernel NAME]... [--step WORDS]... [--] [TESTS...]: boots kernels of Debian in qemu, or as a program, with systemd
// and pure cgroup v2, and runs the steps of steps.js there, or the test files that are named. It needs root, what
// `scripts/setup.sh guests` installs, and a network. What it makes, 2 GB and 300 MB for each kernel, is kept for the next time in
// $INTERCEDE_GUESTS, or ~/.cache/intercede/guests. Where KVM does not work, all steps take some 15 minutes. --write puts the
// results into docs/internals/kernels.md.

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { stepOf, steps } from './steps.js'

const KERNELS = {
  '5.10': ['bullseye', 'linux-image-ARCH'],
  6.1: ['bookworm', 'linux-image-ARCH'],
  '6.1-uml': ['bookworm', 'user-mode-linux'],
  6.12: ['trixie', 'linux-image-ARCH'],
  '6.12-rt': ['trixie', 'linux-image-rt-ARCH'],
  backports: ['trixie-backports', 'linux-image-ARCH'],
  unstable: ['sid', 'linux-image-ARCH'],
  experimental: ['experimental', 'linux-image-ARCH'],
}

/** How each machine of qemu begins. The second serial port (/dev/ttyS1) is the one that a guest reports by. */
const MACHINES = {
  amd64: {
    program: 'qemu-system-x86_64',
    tcg: ['-machine', 'q35', '-cpu', 'max'],
    console: 'ttyS0',
    native: 'x64',
    second: ['-serial', 'stdio'],
  },
  arm64: {
    program: 'qemu-system-aarch64',
    tcg: ['-machine', 'virt', '-cpu', 'max'],
    console: 'ttyAMA0',
    native: 'arm64',
    second: ['null,id=none', 'stdio,id=report'].flatMap((end) => [
      ...['-chardev', end, '-device', `pci-serial,chardev=${/id=(.*)/.exec(end)[1]}`],
    ]),
  },
}

/** What --all boots: backports and experimental are often what another one is already. */
const ALL = ['5.10', '6.1', '6.12', '6.12-rt', 'unstable'].map((name) => ['amd64', name]).concat([['arm64', '6.12']])

const USAGE = `usage: npm run guests -- [--kernel NAME]... [--arch NAME] [--step WORDS]... [--seconds N] [--write] [--] [TESTS...]
       npm run guests -- --all [--write]
--all: all steps on ${ALL.map(([arch, name]) => `${name} ${arch}`).join(', ')}
kernels: ${Object.keys(KERNELS).join(', ')} (default: 6.12); architectures: ${Object.keys(MACHINES).join(', ')}
--step: only the steps whose name has these words; --seconds: the most that a test file may take (default: 900)
--write: puts the results into docs/internals/kernels.md
-- TESTS: these test files or folders instead of the steps`

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url))
const CACHE = process.env.INTERCEDE_GUESTS ?? join(homedir(), '.cache/intercede/guests')
const BOOT_SECONDS = 600
/** Units of systemd that take long, and that no step needs. /tmp is on ext4: a tmpfs lacks attributes of users before 6.6. */
const MASKED = [
  'tmp.mount',
  'proc-sys-fs-binfmt_misc.automount',
  'systemd-binfmt.service',
  'systemd-random-seed.service',
  'systemd-firstboot.service',
]

const KERNEL_WORDS = [
  ...['panic=-1', 'loglevel=4', 'systemd.show_status=false', 'systemd.unit=guest.service'],
  ...MASKED.map((unit) => `systemd.mask=${unit}`),
]

const read = (name) => readFileSync(new URL(name, import.meta.url))
const say = (text) => console.error(`guests: ${text}`)

function options() {
  const own = process.arch === 'arm64' ? 'arm64' : 'amd64'
  const kernel = { type: 'string', multiple: true, default: ['6.12'] }
  const step = { type: 'string', multiple: true, default: [''] }
  const words = {
    ...{ kernel, step, arch: { type: 'string', default: own }, seconds: { type: 'string', default: '900' } },
    write: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  }
  try {
    const { values, positionals } = parseArgs({ options: words, allowPositionals: true })
    if (values.help) {
      console.log(USAGE)
      process.exit(0)
    }
    const unknown = values.kernel.find((name) => !KERNELS[name])
    if (unknown) throw new Error(`no kernel is called ${unknown}`)
    if (!MACHINES[values.arch]) throw new Error(`no architecture is called ${values.arch}`)
    const guests = values.all ? ALL : values.kernel.map((name) => [values.arch, name])
    return { ...values, guests, seconds: Number(values.seconds), tests: positionals }
  } catch (error) {
    console.error(`guests: ${error.message}\n${USAGE}`)
    return process.exit(2)
  }
}

/** Runs NAME.sh in a new directory, which then gets its place unless it is there already. */
function made(name, says, input, ...words) {
  const digest = createHash('sha256').update(words.join(' '))
  for (const file of [`${name}.sh`, input]) digest.update(read(file))
  const place = join(CACHE, `${[name, ...words].join('-')}-${digest.digest('hex').slice(0, 12)}`)
  if (existsSync(place)) return place
  say(`making ${says}`)
  mkdirSync(CACHE, { recursive: true })
  const scratch = mkdtempSync(`${place}.`)
  try {
    shell(scratch, fileURLToPath(new URL(`${name}.sh`, import.meta.url)), ...words)
    // Another run may have made it meanwhile.
    if (!existsSync(place)) renameSync(scratch, place)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return place
}

function shell(directory, ...words) {
  const { status } = spawnSync('nice', ['sh', ...words], { cwd: directory, stdio: ['ignore', 2, 2] })
  if (status !== 0) throw new Error(`Cannot go on: sh ${words.join(' ')} ended with ${status}`)
}

/** The package of Debian, if it can be made here. */
const PACKAGE = `command -v dpkg-buildpackage dh >/dev/null || exit 0
mkdir -p package/intercede
tar -c -C "$1" --exclude=./.git --exclude=./node_modules . | tar -x -C package/intercede
ln -s "$1/node_modules" package/intercede/node_modules
(cd package/intercede && dpkg-buildpackage -b -us -uc >../log 2>&1) || { cat package/log; exit 1; }
mkdir -p added
mv package/*.deb added/intercede.deb
rm -rf package`

/** The checkout as it is, built, with native code for the guest; what tests have cached is made again there. */
const COPY = `native=added/node_modules/@koromix/koffi-linux-$2
mkdir -p $native
[ -d "$1/node_modules/@koromix/koffi-linux-$2" ] || {
  npm pack --silent @koromix/koffi-linux-$2@$(node -p 'require(process.argv[1]).version' "$1/node_modules/koffi/package.json")
  tar -x -z -f koromix-*.tgz --strip-components=1 -C $native
}
truncate -s 4G checkout.ext4
tar -c -C "$1" --exclude=./.git --exclude=./node_modules/.cache . -C "$PWD/added" . | mke2fs -q -t ext4 -O ^has_journal -d - checkout.ext4`

function qemu({ program, tcg, console: port }, { kernel, isFast, words = '', disks = [], serial }) {
  const drives = disks.flatMap((file) => ['-drive', `file=${file},format=raw,if=virtio,snapshot=on`])
  const args = [
    ...(isFast ? ['-machine', 'accel=kvm', '-cpu', 'host'] : [...tcg, '-accel', 'tcg,thread=multi']),
    ...['-smp', '2', '-m', '2048', '-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-kernel', join(kernel, 'vmlinuz'), '-initrd', join(kernel, 'initrd.gz')],
    ...['-append', [`console=${port}`, 'no_timer_check', ...KERNEL_WORDS, words].join(' ')],
    ...[...serial, ...drives],
  ]
  return ending('/var/tmp', words ? 'ignore' : 'inherit', program, ...args)
}

/** Starts a guest that whatever ends this program ends. */
function ending(TMPDIR, errors, ...words) {
  const env = { ...process.env, TMPDIR }
  const stdio = ['pipe', 'pipe', errors]
  return spawn('nice', ['-n', '10', 'setpriv', '--pdeathsig', 'KILL', ...words], { stdio, env })
}

/**
 * Starts user-mode Linux: the kernel as a program, and each process of the guest as a process here, whose calls and page
 * faults it gets by ptrace(2). It is several times as fast as TCG; on one processor, twice as fast as on two.
 */
function userMode({ kernel, disks, log, scratch }) {
  const [, processor] = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))
  // With the cpu controller this kernel gives no real-time policy to a control group.
  const words = ['mem=3072M', 'cgroup_disable=cpu', 'con=null', 'con0=null,fd:2', 'ssl1=fd:0,fd:1', 'console=tty0']
  const copies = disks.map((file, index) => `ubd${index}=${join(scratch, `changes${index}`)},${file}`)
  return ending(
    ...['/dev/shm', openSync(log, 'w'), 'taskset', '--cpu-list', processor],
    ...[
      'unshare',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'setsid',
      process.env.INTERCEDE_UML ?? join(kernel, 'vmlinuz'),
    ],
    ...[...words, ...copies, `uml_dir=${scratch}/`, `initrd=${join(kernel, 'initrd.gz')}`, ...KERNEL_WORDS],
  )
}

/** Tells whether a guest boots with KVM: on some machines it is there, and does not work. */
async function hasKvm(machine, kernel) {
  if (process.arch !== machine.native || !existsSync('/dev/kvm')) return false
  const child = qemu(machine, { kernel, isFast: true, words: 'guest.boots', serial: ['-serial', 'stdio'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
  let said = ''
  for await (const chunk of child.stdout) said += chunk
  clearTimeout(timer)
  return said.includes('This guest boots')
}

/** The script of the guest, in whole sectors. */
function scriptOf(wanted) {
  const parts = wanted.map(
    ({ name, seconds, script }) => `step '${name}' ${seconds} <<'END OF STEP'\n${script}\nEND OF STEP\n`,
  )
  const text = `${read('guest.sh')}\n${parts.join('\n')}exit\n`
  return text + '\n'.repeat(512 - (Buffer.byteLength(text) % 512))
}

/** Takes what the guest says, and reports each step as it ends. */
class Report {
  failed = 0
  ended = 0
  release = ''
  /** By step: how it ended. */
  cells = new Map()
  #step = ''
  #lines = []
  #start = performance.now()

  take(line) {
    const [, word, rest] = /^@(kernel|step|end) (.*)$/.exec(line) ?? []
    if (word === undefined) this.#lines.push(line)
    else if (word === 'kernel') {
      this.release = rest
      say(`Linux ${rest} has booted in ${this.#seconds()} s`)
    } else if (word === 'end') this.#end(Number(rest))
    else this.#begin(rest)
  }

  /** Whatever has not ended has failed. */
  over(count, why) {
    if (this.ended < count) {
      this.failed += count - this.ended
      console.log(
        `failed   ${this.#step || 'boot'}: ${why}; ${count - this.ended} of ${count} steps have not ended\n${this.#said}`,
      )
    }
    console.log(`${count - this.failed} of ${count} steps are ok or skipped`)
  }

  #begin(step) {
    say(step)
    this.#step = step
    this.#lines = []
    this.#start = performance.now()
  }

  #end(status) {
    this.ended++
    const said = `${this.#seconds().padStart(6)} s  ${this.#step}`
    const refused = this.#lines.at(-1)?.startsWith('refused') ? 'refused' : 'skipped'
    this.cells.set(this.#step, status === 0 ? this.#seconds() : status === 77 ? refused : '**failed**')
    if (status === 0) console.log(`ok      ${said}`)
    else if (status === 77) console.log(`skipped ${said} [${this.#lines.at(-1)}]`)
    else {
      this.failed++
      console.log(`failed  ${said}: ${status === 124 ? 'it took too long' : `status ${status}`}\n${this.#said}`)
    }
    this.#lines = []
  }

  get #said() {
    return this.#lines.map((line) => `        | ${line}`).join('\n')
  }

  #seconds() {
    return ((performance.now() - this.#start) / 1000).toFixed(1)
  }
}

const PAGE = join(CHECKOUT, 'docs/internals/kernels.md')
const cellsOf = (line) =>
  line
    .slice(1, -1)
    .split('|')
    .map((cell) => cell.trim())

/** Puts a column into the table of the page, in the place of one of the same kernel; other steps keep what they have. */
function writeColumn(head, cells) {
  const lines = readFileSync(PAGE, 'utf8').split('\n')
  const first = lines.findIndex((line) => line.startsWith('| step |'))
  const last = lines.findIndex((line, at) => at > first && !line.startsWith('|'))
  const [heads, , ...rows] = lines.slice(first, last).map(cellsOf)
  const old = heads.findIndex((each) => each.split(',')[0] === head.split(',')[0])
  const at = old < 0 ? heads.length : old
  heads[at] = head
  const table = new Map(rows.map(([step, ...each]) => [step, [step, ...each]]))
  for (const [step, cell] of cells) {
    const row = table.get(step) ?? [step]
    row[at] = cell
    table.set(step, row)
  }
  const written = [heads, heads.map(() => '---'), ...table.values()].map(
    (row) => `| ${Array.from(heads, (_, index) => row[index] ?? '').join(' | ')} |`,
  )
  lines.splice(first, last - first, ...written)
  writeFileSync(PAGE, lines.join('\n'))
}

/** Boots a guest, and ends it if it has not ended by itself. @returns whether all steps are as they should be */
async function run(arch, name, { root, checkout, scratch, wanted, write }) {
  const [suite, packages] = KERNELS[name]
  const machine = MACHINES[arch]
  const source = [arch, suite, packages.replace('ARCH', arch)]
  const kernel = made('kernel', `the kernel ${name}`, 'initrd.sh', ...source)
  const isUserMode = name.endsWith('-uml')
  const isFast = !isUserMode && (await hasKvm(machine, kernel))
  const script = join(scratch, 'script')
  writeFileSync(script, scriptOf(wanted))
  const log = join(CACHE, `console-${name}-${arch}.log`)
  say(`booting ${name}${isUserMode ? '' : `, ${isFast ? 'with' : 'without'} KVM`}; its console is ${log}`)
  const disks = [join(root, 'root.ext4'), join(kernel, 'modules.ext4'), checkout, script]
  const child = isUserMode
    ? userMode({ kernel, disks, log, scratch })
    : qemu(machine, { kernel, isFast, disks, serial: ['-serial', `file:${log}`, ...machine.second] })
  const end = () => child.kill('SIGKILL')
  process.once('exit', end)
  const limit = BOOT_SECONDS + wanted.reduce((sum, { seconds }) => sum + seconds, 0)
  const timer = setTimeout(end, 1000 * limit)
  const report = new Report()
  for await (const line of createInterface(child.stdout)) report.take(line.replace(/\r$/, ''))
  clearTimeout(timer)
  process.off('exit', end)
  report.over(wanted.length, `the guest ended early, or was ended after ${limit} s`)
  if (write && report.release) writeColumn(`${report.release}, ${new Date().toISOString().slice(0, 10)}`, report.cells)
  return report.failed === 0
}

async function main() {
  const { guests, step, seconds, tests, write } = options()
  const named = steps.filter(({ name }) => step.some((words) => name.includes(words)))
  const wanted = tests.length > 0 ? tests.map((file) => stepOf(file, seconds)) : named
  mkdirSync(CACHE, { recursive: true })
  const scratch = mkdtempSync(join(CACHE, 'checkout.'))
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))
  for (const arch of new Set(guests.map(([arch]) => arch))) {
    const { native } = MACHINES[arch]
    const root = made('root', `the root file system of ${arch}, which takes two minutes`, 'guest.service', arch)
    const place = join(scratch, arch)
    mkdirSync(place)
    if (native === process.arch && wanted.some(({ name }) => name.startsWith('the package'))) {
      say('making the package')
      shell(place, '-ec', PACKAGE, 'sh', CHECKOUT)
    }
    say('copying the checkout')
    shell(place, '-ec', COPY, 'sh', CHECKOUT, native)
    const checkout = join(place, 'checkout.ext4')
    for (const [, name] of guests.filter(([of]) => of === arch))
      if (!(await run(arch, name, { root, checkout, scratch, wanted, write }))) process.exitCode = 1
  }
}

await main().catch(({ message }) => {
  say(message)
  process.exitCode = 1
})
