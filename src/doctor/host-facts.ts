import { execFileSync } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { release } from 'node:os'
import { type KernelFeature, kernelFeatures } from '../kernel/probe.ts'
import { which } from '../runtimes/which.ts'
import { nullFlaw } from './null-device.ts'
import { openToOthers } from './own-files.ts'

/** The questions that probes ask about the machine; tests replace them. Only `kernel` may throw. */
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
  /** Returns what is wrong with /dev/null. */
  nullFlaw(): string | undefined
  /** Returns what a program prints; undefined if it is not installed or fails. */
  run(program: string, ...args: readonly string[]): string | undefined
}

/** How long a program may take to say its version: nothing but a slow machine takes long. */
const RUN_MS = 60_000
function orElse<T>(attempt: () => T): T | undefined {
  try {
    return attempt()
  } catch {
    return undefined
  }
}

/** The machine on which this process runs. */
export const thisHost: HostFacts = {
  release: release(),
  arch: process.arch,
  node: process.versions.node,
  kernel: kernelFeatures,
  read: (path) => orElse(() => readFileSync(path, 'utf8')) ?? '',
  link: (path) => orElse(() => readlinkSync(path)),
  which,
  contains: (path, text) => orElse(() => readFileSync(path).includes(text)) ?? false,
  openToOthers: () => openToOthers(),
  nullFlaw,
  run(program, ...args) {
    const path = which(program)
    if (path === undefined) return undefined
    return orElse(() =>
      execFileSync(path, args, { encoding: 'utf8', timeout: RUN_MS, stdio: ['ignore', 'pipe', 'ignore'] }),
    )
  },
}
