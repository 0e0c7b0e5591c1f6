import { accessSync, constants, existsSync } from 'node:fs'
import { type Diagnosis, examine, type Report } from '../doctor/doctor.ts'
import { type Finding, thisHost } from '../doctor/host-facts.ts'
import { openToOthers } from '../doctor/own-files.ts'
import { orElse } from '../kernel/error.ts'
import { number } from '../reader/container-fields.ts'
import { DaemonSilent, type FeedReader, NoDaemon } from '../reader/feed.ts'
import { counted } from '../shared/texts.ts'
import { archiveOf, collectParts } from './bug-report.ts'
import { requireProfilesInUse } from './check-config.ts'
import { type Feeds, historyLacks, openFeed, openFeeds, withoutEngine } from './open-feed.ts'
import { formatValue, table } from './output-format.ts'
import { configFile } from './paths.ts'
import { print } from './print.ts'
import { checkUsage, STATUS } from './usage.ts'
import { readConfiguration } from './wanted-policy.ts'
import { writeNew } from './write-whole.ts'

function lines({ name, health, needed, found, follows, remedy }: Diagnosis): readonly string[] {
  const label = needed && health !== 'ok' ? 'NEEDED' : health
  const head = `  ${label.padEnd(8)} ${name}${found ? `: ${found}` : ''}`
  return health === 'ok' ? [head] : [head, `             ${follows}`, `             -> ${remedy}`]
}

function conclusion({ able, ableToRun, ableForUser, isRoot, isDown }: Report): string {
  if (!isRoot)
    return 'this process cannot tell whether intercede can work here: run intercede doctor as root, with sudo'
  if (able) return `intercede run and serve can work here${isDown ? ', but the running daemon does not answer' : ''}`
  if (ableToRun) return 'only intercede run can work here, serve may not: see the lines marked NEEDED'
  if (ableForUser) return 'only intercede serve --user can work here: it serves sysinfo and mount.fuse'
  return 'intercede cannot work here: see the lines marked NEEDED'
}

function text(report: Report): string {
  const { kernel, arch, node, diagnoses } = report
  return [`Linux ${kernel} on ${arch}, Node ${node}`, ...diagnoses.flatMap(lines), conclusion(report)].join('\n')
}

/** Says why a reload would refuse it. @throws {Error} if we may not read it */
function flawOfConfiguration(path: string, feed: string | undefined): string | undefined {
  const file = existsSync(path) ? path : undefined
  if (file !== undefined) accessSync(file, constants.R_OK)
  try {
    requireProfilesInUse(readConfiguration(file), file, feed, path)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/**
 * Returns the path of the configuration that the daemon reads, or would read. What a daemon of another user names is
 * not read: it could be any file of ours, and part of it would stand in a message or an archive that is sent on.
 */
const configPathOf = (path: string | undefined): string =>
  orElse(configFile(false), () => {
    using feed = openFeed(path)
    const isTrusted = [0, process.getuid?.()].includes(feed.uid)
    return (isTrusted ? feed.directory.daemon.configPath : undefined) ?? configFile(false)
  })

/** What is wrong, and what to do. */
type Flaw = readonly [found: string, remedy: string]

/** Says what is wrong with the daemon that runs, or that none does. @throws {Error} if we may not ask it */
function findDaemon(path: string | undefined): Finding {
  try {
    using feeds = openFeeds(path, { isUsual: true })
    const { daemon, missing } = feeds
    if (missing && !(missing instanceof NoDaemon)) throw missing
    const flaws = [...(daemon ? flawsOf(daemon) : []), ...unserved(feeds)]
    return {
      ok: flaws.length === 0,
      found: [...(daemon ? [] : [NONE]), ...flaws.map(([found]) => found)].join('; '),
      remedy: flaws.map(([, remedy]) => remedy).join('; '),
    }
  } catch (error) {
    if (error instanceof NoDaemon) return { ok: true, found: NONE }
    if (!(error instanceof DaemonSilent)) throw error
    return { ok: false, found: error.message, remedy: AWAKE, isDown: true }
  }
}

const NONE = 'none runs'
const AWAKE = 'if "ps" shows it in state T, it was stopped: continue it with SIGCONT; otherwise restart it'

const flawsOf = ({ directory: { state, daemon } }: FeedReader): readonly Flaw[] => [
  ...(state.engine === 0
    ? [
        [
          `no engine serves now: ${withoutEngine(daemon)}`,
          'read its log (of the package: journalctl -u intercede)',
        ] as const,
      ]
    : []),
  ...(daemon.historyFlaw === undefined ? [] : [[formatValue(daemon.historyFlaw), 'mend that, and reload it'] as const]),
  ...historyLacks(number(daemon.historyLost)).map((lacks): Flaw => [lacks, 'make room for history']),
]

/** Says how many containers still run whose daemon has ended, as far as history can be read. */
function unserved(feeds: Feeds): readonly Flaw[] {
  const left = orElse(0, () => [...feeds.list(false)].filter(({ state }) => state === 'unserved').length)
  if (left === 0) return []
  const [are, them] = left === 1 ? ['is', 'it'] : ['are', 'them']
  return [
    [
      `${counted(left, 'container')} of a daemon that has ended ${are} not served`,
      `restart ${them}: "intercede ps" lists ${them}`,
    ],
  ]
}

interface DoctorOptions {
  readonly format: 'table' | 'json'
  readonly bundle?: string
  readonly feed?: string
}

/** Says what is in the archive before it is written: whoever sends it on must know. */
async function writeBundle(file: string, report: Report, config: string, feed: string | undefined): Promise<void> {
  // Before all the work; it is asked again when the file is made.
  if (existsSync(file)) throw new Error(`Cannot write "${file}": it already exists; name a new file`)
  const parts = await collectParts(report, config, feed)
  const rows = parts.map(({ name, says, text }) => [name, `${Buffer.byteLength(text)}`, says])
  print(table([{ title: 'FILE' }, { title: 'BYTES', right: true }, { title: 'WHAT IT IS' }], rows))
  try {
    writeNew(file, archiveOf(parts))
  } catch (error) {
    throw new Error(
      `Cannot write "${file}": ${(error as Error).message}; name a new file on a file system that has room`,
    )
  }
  print(
    `\nwritten to ${formatValue(file)}; it names containers, paths and mounts: look into it before you send it on\n`,
  )
}

export async function doctorCommand({ format, bundle, feed }: DoctorOptions): Promise<void> {
  checkUsage(
    format !== 'json' || bundle === undefined,
    'Cannot use --format json with --bundle: the archive has it as doctor.json',
  )
  const file = configPathOf(feed)
  const report = examine({
    ...thisHost,
    openToOthers: () => openToOthers(existsSync(file) ? [file] : []),
    configFlaw: () => flawOfConfiguration(file, feed),
    daemon: () => findDaemon(feed),
  })
  if (bundle !== undefined) {
    await writeBundle(bundle, report, file, feed)
    return
  }
  process.exitCode = (report.able || report.ableForUser) && !report.isDown ? 0 : STATUS.no
  print(`${format === 'json' ? JSON.stringify(report, undefined, 2) : text(report)}\n`)
}
