import { execFileSync } from 'node:child_process'
import { lstatSync, readFileSync, readlinkSync, type Stats } from 'node:fs'
import { release } from 'node:os'
import { orElse } from '../kernel/error.ts'
import { type KernelFeature, kernelFeatures } from '../kernel/probe.ts'
import { which } from '../runtimes/runtime.ts'
import { openToOthers, rootOwners } from './own-files.ts'

const PATH = '/dev/null'
const ALL_READ_AND_WRITE = 0o666

/** How to mend it, and how to avoid that it happens again. */
export const NULL_REMEDY = `chown root:root ${PATH} && chmod 666 ${PATH}, and start containers of podman with -i`

/** Returns what is wrong with the host's /dev/null; undefined if all is well. */
export function flawOfNull({ uid, mode }: Pick<Stats, 'uid' | 'mode'>, good: ReadonlySet<number>): string | undefined {
  if (!good.has(uid)) {
    return `${PATH} belongs to user ${uid}, who may close it to all others: crun gives it away where it is a container's standard input`
  }
  if ((mode & ALL_READ_AND_WRITE) === ALL_READ_AND_WRITE) return undefined
  return `${PATH} is closed to others than root: its mode is ${(mode & 0o777).toString(8)}`
}

/** The same for the host on which this process runs. */
export function nullFlaw(): string | undefined {
  const stat = lstatSync(PATH, { throwIfNoEntry: false })
  return stat && flawOfNull(stat, rootOwners())
}

/** What a look at the machine tells. */
export interface Finding {
  readonly ok: boolean
  readonly found?: string
  /** What to do about what was found, where that is not always the same. */
  readonly remedy?: string
  /** Whether the daemon that runs does not answer. */
  readonly isDown?: boolean
}

/**
 * The questions that probes ask about the machine; tests replace them. Only `kernel`, `configFlaw` and `daemon` may
 * throw.
 */
export interface HostFacts {
  readonly release: string
  readonly arch: string
  readonly node: string
  readonly kernel: Readonly<Record<KernelFeature, () => boolean>>
  /** Returns the text of a file; empty if it cannot be read. */
  read(path: string): string
  link(path: string): string | undefined
  which(program: string): string | undefined
  contains(path: string, text: string): boolean
  /** Returns what is wrong with intercede's own files if other users may change them. */
  openToOthers(): string | undefined
  /** Returns what is wrong with the configuration. */
  configFlaw(): string | undefined
  /** Returns whether all is well with the daemon that runs, and what is worth saying about it. */
  daemon(): Finding
  /** Returns what is wrong with /dev/null. */
  nullFlaw(): string | undefined
  /** Returns what a program prints; undefined if it is not installed or fails. */
  run(program: string, ...args: readonly string[]): string | undefined
}

/** How long a program may take to say its version: nothing but a slow machine takes long. */
const RUN_MS = 60_000

/** The machine on which this process runs. */
export const thisHost: HostFacts = {
  release: release(),
  arch: process.arch,
  node: process.versions.node,
  kernel: kernelFeatures,
  read: (path) => orElse('', () => readFileSync(path, 'utf8')),
  link: (path) => orElse(undefined, () => readlinkSync(path)),
  which,
  contains: (path, text) => orElse(false, () => readFileSync(path).includes(text)),
  openToOthers: () => openToOthers(),
  configFlaw: () => undefined,
  daemon: () => ({ ok: true }),
  nullFlaw,
  run(program, ...args) {
    const path = which(program)
    if (path === undefined) return undefined
    return orElse(undefined, () =>
      execFileSync(path, args, { encoding: 'utf8', timeout: RUN_MS, stdio: ['ignore', 'pipe', 'ignore'] }),
    )
  },
}
