import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { statFields } from '../support/stat.ts'

/** What /proc says, or '' if the process has ended meanwhile. */
export function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

export function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

export function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

export const processes = (): string[] => list('/proc').filter((name) => /^\d+$/.test(name))

/** The process and all that it has started, by their numbers. */
export function family(first: number): string[] {
  const children = new Map<string, string[]>()
  for (const pid of processes()) {
    const parent = statFields(`/proc/${pid}/stat`)[1] ?? ''
    children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const all = [String(first)]
  for (const each of all) all.push(...(children.get(each) ?? []))
  return all
}

const OWN_USERNS = link('/proc/self/ns/user')
const OWN_PIDNS = link('/proc/self/ns/pid')

/** In a user namespace of its own: what it changes there is its own business. */
export const isOfHost = (pid: string): boolean => link(`/proc/${pid}/ns/user`) === OWN_USERNS
/** The processes of a container, as its pid namespace shows. */
export const isContained = (pid: string): boolean => {
  const own = link(`/proc/${pid}/ns/pid`)
  return own !== '' && own !== OWN_PIDNS
}

/** The first thread of an engine never leaves its namespaces. */
export const isEngine = (pid: string): boolean =>
  !isContained(pid) && read(`/proc/${pid}/cmdline`).includes('/engine/main')
