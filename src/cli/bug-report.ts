import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createTar } from 'nanotar'
import { shownJson } from '../calls/escape.ts'
import type { Report } from '../doctor/doctor.ts'
import { version } from '../processes/installation.ts'
import { containersOf, everythingOf } from '../reader/container-view.ts'
import { EventStream } from '../reader/event-stream.ts'
import { runtimes } from '../runtimes/known/index.ts'
import { openFeed } from './open-feed.ts'

/** One file of the archive. */
export interface Part {
  readonly name: string
  /** What it is, for the list that is shown before anything is written. */
  readonly says: string
  readonly text: string
}

interface Source {
  readonly name: string
  readonly says: string
  /** May throw: then the part says why it is not there. */
  readonly find: () => string | Promise<string>
}

/** In bytes of one part, of which there are nine: 16 MiB in all. What is longer keeps its end. */
const PART_LIMIT = 1.7 * 1024 * 1024
/** In milliseconds, for a program that hangs. */
const PROGRAM_MS = 5000
const LOG_LINES = 5000
const PROGRAMS = [...runtimes.flatMap(({ installed }) => installed?.program ?? []), 'systemctl', 'tini']
const SOCKETS = ['', '-lxc', '-feed', '-control'].map((name) => `intercede${name}.socket`)
const UNITS = ['intercede.service', ...SOCKETS]

/**
 * The properties of units that are shown, and no others: units have passwords in variables, in credentials, in command
 * lines and in comments.
 */
const UNIT_PROPERTIES: ReadonlySet<string> = new Set([
  ...['Id', 'FragmentPath', 'DropInPaths', 'UnitFileState', 'NeedDaemonReload', 'LoadState', 'ActiveState', 'SubState'],
  ...['Result', 'NRestarts', 'MainPID', 'ExecMainStatus', 'ActiveEnterTimestamp', 'ControlGroup', 'Slice', 'Type'],
  ...['NotifyAccess', 'KillMode', 'Restart', 'RestartUSec', 'TimeoutStartUSec', 'TimeoutStopUSec', 'WatchdogUSec'],
  ...['FileDescriptorStoreMax', 'NFileDescriptorStore', 'FileDescriptorStorePreserve', 'LimitNOFILE', 'LimitMEMLOCK'],
  ...['MemoryCurrent', 'MemoryPeak', 'MemoryHigh', 'MemoryMax', 'MemorySwapMax', 'TasksCurrent', 'TasksMax'],
  ...[
    'OOMScoreAdjust',
    'OOMPolicy',
    'CPUWeight',
    'CPUQuotaPerSecUSec',
    'Nice',
    'User',
    'Group',
    'UMask',
    'DynamicUser',
  ],
  ...['CapabilityBoundingSet', 'NoNewPrivileges', 'SystemCallFilter', 'RestrictNamespaces', 'DevicePolicy'],
  ...['PrivateMounts', 'PrivateTmp', 'PrivateDevices', 'PrivateNetwork', 'ProtectSystem', 'ProtectHome', 'ProtectProc'],
  ...['MountFlags', 'IPAddressDeny', 'KeyringMode', 'Listen', 'SocketUser', 'SocketGroup', 'SocketMode', 'Backlog'],
])

/** Without our environment, in which there may be secrets. */
const said = (program: string, ...words: readonly string[]): string =>
  execFileSync(program, words, {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: PROGRAM_MS,
  })

function orWhyNot(find: () => string): string {
  try {
    return find()
  } catch (error) {
    return `(${(error as Error).message.split('\n')[0]})\n`
  }
}

const files = (...paths: readonly string[]): string =>
  paths.map((path) => `# ${path}\n${orWhyNot(() => readFileSync(path, 'utf8'))}\n`).join('')

const programs = (): string =>
  PROGRAMS.map((program) => `# ${program} --version\n${orWhyNot(() => said(program, '--version'))}\n`).join('')

/** The source of a mount, and the options of its file system, may hold a password. */
const mounts = (): string => readFileSync('/proc/self/mountinfo', 'latin1').replaceAll(/^(.*? - \S+) .*$/gm, '$1')

/** A value of several lines is cut, since its next line could be taken for another property. */
const units = (): string =>
  said('systemctl', 'show', `--property=${[...UNIT_PROPERTIES].join()}`, ...UNITS)
    .split('\n')
    .filter((line) => line === '' || UNIT_PROPERTIES.has(line.split('=', 1)[0]!))
    .join('\n')

function containers(path: string | undefined): string {
  using feed = openFeed(path)
  return `${shownJson(containersOf(feed, true).map(everythingOf))}\n${shownJson(feed.directory.ring('refused'))}\n`
}

async function events(path: string | undefined): Promise<string> {
  using stream = new EventStream({ connect: () => openFeed(path), follow: false })
  const lines: string[] = []
  for await (const event of stream.events()) lines.push(`${shownJson(event)}\n`)
  return lines.join('')
}

function journal(): string {
  const words = ['--lines', `${LOG_LINES}`, '--output', 'json', '--no-pager', '--quiet']
  const lines = said('journalctl', '--unit', 'intercede', ...words)
  if (lines !== '') return lines
  throw new Error('The journal shows no line of intercede.service: there is none, or only root may read it')
}

const sources = (report: Report, config: string, feed: string | undefined): readonly Source[] => [
  { name: 'doctor.json', says: 'what this machine can do', find: () => `${JSON.stringify(report, undefined, 2)}\n` },
  {
    name: 'versions.txt',
    says: 'versions of intercede, the kernel, the system and the runtimes',
    find: () => `intercede ${version()}\n${files('/proc/version', '/etc/os-release')}${programs()}`,
  },
  {
    name: 'kernel.txt',
    says: 'file systems, security modules and limits of the kernel',
    find: () => files('/proc/filesystems', '/sys/kernel/security/lsm', '/proc/sys/kernel/seccomp/actions_avail'),
  },
  {
    name: 'mounts.txt',
    says: 'the mounts of the host',
    find: () => `${mounts()}${files('/proc/self/cgroup')}`,
  },
  {
    name: 'config.yaml',
    says: 'the configuration of the daemon',
    find: () => readFileSync(config, 'utf8'),
  },
  {
    name: 'units.txt',
    says: 'state, limits and sandbox of its units, without command lines, variables and credentials',
    find: units,
  },
  {
    name: 'containers.json',
    says: 'its containers, what they may do and what was refused, with paths in them, and refused hand-overs',
    find: () => containers(feed),
  },
  { name: 'events.jsonl', says: 'the last calls, with their paths', find: () => events(feed) },
  {
    name: 'log.jsonl',
    says: `the last ${LOG_LINES} lines of its log, with last words of FUSE programs in containers`,
    find: journal,
  },
]

/** Cuts what is too long at the beginning of a line, since the last lines tell more. */
function cut(text: string): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= PART_LIMIT) return text
  const end = bytes.subarray(bytes.length - PART_LIMIT)
  const kept = end.subarray(end.indexOf('\n') + 1)
  return `(the first ${bytes.length - kept.length} bytes are left out)\n${kept.toString()}`
}

/**
 * Collects what helps to understand a fault. It reads what the host says and what the daemon shows to its readers; no
 * file of a container is opened, and no variable of the environment is read.
 *
 * @param config the path of the configuration
 * @param feed the socket of another daemon than the usual one
 */
export function collectParts(report: Report, config: string, feed: string | undefined): Promise<readonly Part[]> {
  return Promise.all(
    sources(report, config, feed).map(async ({ name, says, find }) => {
      try {
        return { name, says, text: cut(await find()) }
      } catch (error) {
        return { name: `${name}.missing`, says, text: `${(error as Error).message}\n` }
      }
    }),
  )
}

/** The parts as a tar archive, readable by its owner alone, in a directory of its own. */
export const archiveOf = (parts: readonly Part[]): Uint8Array =>
  createTar(
    parts.map(({ name, text }) => ({ name: `intercede/${name}`, data: text })),
    { attrs: { mode: '600', uid: 0, gid: 0 } },
  )
