import { execFileSync } from 'node:child_process'
import { accessSync, constants, readFileSync, readlinkSync } from 'node:fs'
import { release } from 'node:os'
import { type KernelFeature, kernelFeatures } from '../kernel/probe.ts'

/** What may be asked about the machine; a test gives another one. Nothing here throws but the kernel's features. */
export interface Machine {
  readonly release: string
  readonly arch: string
  readonly node: string
  readonly kernel: Readonly<Record<KernelFeature, () => boolean>>
  /** The text of a file; empty if it cannot be read. */
  read(path: string): string
  link(path: string): string | undefined
  which(program: string): string | undefined
  contains(path: string, text: string): boolean
  /** What a program prints; undefined if it is not there or fails. */
  run(program: string, ...args: readonly string[]): string | undefined
}

const RUN_MS = 5000
/** Where administrators' PATH often does not reach. */
const SEARCH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

function orElse<T>(attempt: () => T): T | undefined {
  try {
    return attempt()
  } catch {
    return undefined
  }
}

const isExecutable = (path: string): boolean => orElse(() => accessSync(path, constants.X_OK) ?? true) ?? false

const which = (program: string): string | undefined =>
  `${process.env.PATH ?? ''}:${SEARCH}`
    .split(':')
    .map((folder) => `${folder}/${program}`)
    .find((path) => path.startsWith('/') && isExecutable(path))

/** The machine that we run on. */
export const thisMachine: Machine = {
  release: release(),
  arch: process.arch,
  node: process.versions.node,
  kernel: kernelFeatures,
  read: (path) => orElse(() => readFileSync(path, 'utf8')) ?? '',
  link: (path) => orElse(() => readlinkSync(path)),
  which,
  contains: (path, text) => orElse(() => readFileSync(path).includes(text)) ?? false,
  run(program, ...args) {
    const path = which(program)
    if (path === undefined) return undefined
    return orElse(() =>
      execFileSync(path, args, { encoding: 'utf8', timeout: RUN_MS, stdio: ['ignore', 'pipe', 'ignore'] }),
    )
  },
}
