import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { readText } from '../kernel/text-file.ts'
import type { RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { which } from './which.ts'

/** What a runtime writes down of a container before it hands over its listener: only the process tells ours from others. */
const records = {
  crun: { file: 'status', init: 'pid' },
  runc: { file: 'state.json', init: 'init_process_pid' },
} as const

type RuntimeName = keyof typeof records
const NAMES = Object.keys(records) as readonly RuntimeName[]

/** The `--root` of runtimes that are not told one, and those that containerd and Docker tell theirs. */
function usualRoots(): readonly string[] {
  const { XDG_RUNTIME_DIR: own } = process.env
  const runs = own?.startsWith('/') && isOurs(own) ? [own, '/run'] : ['/run']
  const usual = runs.flatMap((run) => NAMES.map((name) => join(run, name)))
  return [...usual, ...['/run/containerd/runc', '/run/docker/runtime-runc'].flatMap(foldersIn)]
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
  for (const root of usualRoots()) {
    const name = NAMES.find((one) => pidOf(one, join(root, id)) === pid)
    const program = name && which(name)
    if (program) return { program, options: ['--root', root], env: {} }
  }
  return undefined
}

function pidOf(name: RuntimeName, folder: string): number | undefined {
  const { file, init } = records[name]
  try {
    const record = v.parse(v.record(v.string(), v.unknown()), JSON.parse(readText(join(folder, file))))
    return Number(record[init])
  } catch {
    // No such container there.
    return undefined
  }
}
