import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { orElse } from '../kernel/error.ts'
import type { RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { ociRuntimes, runtimes } from './known/index.ts'
import { type OciRuntime, which } from './runtime.ts'
import { readText } from './text-file.ts'

interface RecordRoot {
  readonly root: string
  /** The runtime whose records the directory may hold. */
  readonly runtime: OciRuntime
}

/** Returns the default `--root` of each runtime, and those that containerd and Docker set. */
function usualRoots(): readonly RecordRoot[] {
  const { XDG_RUNTIME_DIR: ours } = process.env
  const runs = ours?.startsWith('/') && isOurs(ours) ? [ours, '/run'] : ['/run']
  const own = runs.flatMap((run) => ociRuntimes.map((runtime) => ({ root: join(run, runtime.record.root), runtime })))
  const told = runtimes.flatMap(({ rootsIn }) => (rootsIn === undefined ? [] : foldersIn(rootsIn)))
  return [...own, ...told.flatMap((root) => ociRuntimes.map((runtime) => ({ root, runtime })))]
}

/**
 * Tells whether a directory is ours. After `su`, XDG_RUNTIME_DIR may be a user's, who could write false records
 * there.
 */
const isOurs = (folder: string): boolean => orElse(false, () => statSync(folder).uid === process.geteuid?.())

const foldersIn = (folder: string): readonly string[] =>
  orElse([], () => readdirSync(folder).map((name) => join(folder, name)))

/**
 * Finds the runtime of a container by its records, if it ended before it was inspected, as runtimes do as soon as a
 * detached container has started. The container must be in a usual `--root`.
 */
export function recordedRuntime({ id, pid }: Pick<Handover, 'id' | 'pid'>): RuntimeCall | undefined {
  if (id.includes('/')) return undefined
  for (const { root, runtime } of usualRoots()) {
    // Another root may have a container of the same name; the pid of its init tells them apart.
    if (initOf(runtime.record, join(root, id)) !== pid) continue
    const program = which(runtime.installed.program)
    if (program) return { program, options: ['--root', root], env: {} }
  }
  return undefined
}

/** Returns the pid of a container's init by the record in the directory of a runtime; undefined if there is none. */
export const recordedInit = (root: string, id: string): number | undefined =>
  id.includes('/') ? undefined : ociRuntimes.map(({ record }) => initOf(record, join(root, id))).find(Boolean)

/** Returns the pid of a container's init from the runtime's record; undefined if this root has no such container. */
export const initOf = ({ file, init }: OciRuntime['record'], folder: string): number | undefined =>
  orElse(undefined, () => {
    const written = v.parse(v.record(v.string(), v.unknown()), JSON.parse(readText(join(folder, file))))
    return Number(written[init])
  })
