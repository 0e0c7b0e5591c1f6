import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import type { RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { ociRuntimes, runtimes } from './known/index.ts'
import type { OciRuntime } from './runtime.ts'
import { readText } from './text-file.ts'
import { which } from './which.ts'

interface Place {
  readonly root: string
  /** Whose record it may hold. */
  readonly runtime: OciRuntime
}

/** The `--root` of runtimes that are not told one, and those that containerd and Docker tell theirs. */
function usualPlaces(): readonly Place[] {
  const { XDG_RUNTIME_DIR: ours } = process.env
  const runs = ours?.startsWith('/') && isOurs(ours) ? [ours, '/run'] : ['/run']
  const own = runs.flatMap((run) => ociRuntimes.map((runtime) => ({ root: join(run, runtime.record.root), runtime })))
  const told = runtimes.flatMap(({ rootsIn }) => (rootsIn === undefined ? [] : foldersIn(rootsIn)))
  return [...own, ...told.flatMap((root) => ociRuntimes.map((runtime) => ({ root, runtime })))]
}

/** After `su` it may be that of a user, who could write down there whatever the runtime shall believe when we call it. */
function isOurs(folder: string): boolean {
  try {
    return statSync(folder).uid === process.geteuid?.()
  } catch {
    return false
  }
}

function foldersIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).map((name) => join(folder, name))
  } catch {
    return []
  }
}

/**
 * The runtime of a container, by what it has written down: for one that was gone before it was looked at, as runtimes are as
 * soon as a detached container has started. It must keep its containers at a usual place.
 */
export function recordedRuntime({ id, pid }: Pick<Handover, 'id' | 'pid'>): RuntimeCall | undefined {
  if (id.includes('/')) return undefined
  for (const { root, runtime } of usualPlaces()) {
    // Another root may have a container of the same name: its init process tells them apart.
    if (pidOf(runtime.record, join(root, id)) !== pid) continue
    const program = which(runtime.installed.program)
    if (program) return { program, options: ['--root', root], env: {} }
  }
  return undefined
}

function pidOf({ file, init }: OciRuntime['record'], folder: string): number | undefined {
  try {
    const written = v.parse(v.record(v.string(), v.unknown()), JSON.parse(readText(join(folder, file))))
    return Number(written[init])
  } catch {
    // No such container there.
    return undefined
  }
}
