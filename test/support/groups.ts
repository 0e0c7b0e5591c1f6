// Control groups with a memory limit or with tasks, of v1 or v2: for tests of sysinfo(2) and of a lack of memory.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { orElse } from '../../src/kernel/error.ts'

const V1 = '/sys/fs/cgroup/memory'
const V2 = '/sys/fs/cgroup'

interface Format {
  readonly root: string
  readonly limit: string
  readonly prepare: (group: string) => void
}

const delegate = (group: string): void => writeFileSync(`${group}/cgroup.subtree_control`, '+memory')

/** Which hierarchy limits memory on this machine, if one does. */
function find(): Format | undefined {
  if (existsSync(`${V1}/memory.limit_in_bytes`)) return { root: V1, limit: 'memory.limit_in_bytes', prepare: () => {} }
  const controllers = `${V2}/cgroup.controllers`
  if (!existsSync(controllers) || !readFileSync(controllers, 'utf8').split(/\s/).includes('memory')) return undefined
  return { root: V2, limit: 'memory.max', prepare: delegate }
}

const format = find()

/** Why memory cannot be limited here; undefined if it can. */
export const unlimitable = (): string | undefined => (format ? undefined : 'no hierarchy has the memory controller')

let serial = 0

/** A chain of control groups, one in the other, with a limit at the outermost; empty again when it is disposed. */
export class MemoryGroup implements Disposable {
  readonly #paths: readonly string[]
  readonly #limit: string

  constructor(limit: number, depth = 1) {
    const { root, limit: file, prepare } = format!
    if (root === V2) prepare(root)
    const outermost = `${root}/intercede-test-${process.pid}-${serial++}`
    this.#paths = Array.from({ length: depth }, (_, level) => `${outermost}${'/below'.repeat(level)}`)
    for (const [level, path] of this.#paths.entries()) {
      mkdirSync(path)
      if (level < depth - 1) prepare(path)
    }
    this.#limit = `${outermost}/${file}`
    this.limit(limit)
  }

  limit(bytes: number): void {
    writeFileSync(this.#limit, String(bytes))
  }

  /** How many bytes of files are in memory on behalf of the innermost group, those of tmpfs apart. */
  get pageCache(): number {
    const lines = readFileSync(`${this.innermost}/memory.stat`, 'utf8').matchAll(/^(?:in)?active_file (\d+)$/gm)
    return [...lines].reduce((sum, [, bytes]) => sum + Number(bytes), 0)
  }

  get innermost(): string {
    return this.#paths.at(-1)!
  }

  /** The words of a shell that join the innermost group. */
  get join(): string {
    return `echo $$ >${this.innermost}/cgroup.procs`
  }

  [Symbol.dispose](): void {
    remove(this.#paths)
  }
}

/** A control group and some below it, for counting; empty again when it is disposed. */
export class TaskGroup implements Disposable {
  readonly path: string
  readonly #paths: readonly string[]

  constructor(path: string, below: readonly string[]) {
    this.path = path
    this.#paths = [path, ...below.map((name) => `${path}${name}`)]
    for (const each of this.#paths) mkdirSync(each)
  }

  [Symbol.dispose](): void {
    remove(this.#paths)
  }
}

/**
 * From the inside out. The kernel lets go of processes that have ended a little later; those that are still there after a
 * second are left by a test that has failed.
 */
function remove(paths: readonly string[]): void {
  const end = Date.now() + 3000
  for (const path of paths.toReversed()) {
    while (existsSync(path)) {
      try {
        rmdirSync(path)
      } catch (error) {
        if (Date.now() > end) throw error
        if (Date.now() > end - 2000) killAll(path)
      }
    }
  }
}

function killAll(group: string): void {
  const pids = orElse('', () => readFileSync(`${group}/cgroup.procs`, 'latin1'))
  for (const pid of pids.split('\n').filter(Boolean)) orElse(false, () => process.kill(Number(pid), 'SIGKILL'))
}

/** Removes a control group. @returns false if a process is still in it */
export function isRemoved(group: string): boolean {
  try {
    rmdirSync(group)
    return true
  } catch {
    return false
  }
}
