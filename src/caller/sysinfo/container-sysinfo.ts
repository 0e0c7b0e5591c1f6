import type { Memory, SystemInfo } from '../../abi/system.ts'
import type { Handle } from '../../kernel/fd.ts'
import { availableMemory, hostInfo } from '../../kernel/system-info.ts'
import type { Container } from '../identity/container.ts'
import { cgroupFiles, countTasks, type Level, legacyLevels, unifiedLevels } from './cgroup.ts'

/** Holds the memory figures of the whole machine, in bytes. */
export interface HostSysinfo extends Memory {
  /** Memory that could be allocated without swapping: MemAvailable of proc_meminfo(5). */
  readonly available: number
}

/**
 * Returns the figures that sysinfo(2) shall report to a container, from its cgroups.
 *
 * @param proc the host's /proc
 * @returns all figures but the uptime, which changes with every call and is 0 here
 */
export function containerSysinfo({ handles, lxcfs }: Container, proc: Handle): SystemInfo {
  const host = hostInfo()
  const machine = { ...host, available: availableMemory(proc) }
  const { memory: v1, cgroup, tasks } = handles ?? {}
  const legacy = v1 === undefined ? [] : legacyLevels(cgroupFiles(v1))
  const unified = cgroup === undefined ? [] : unifiedLevels(cgroupFiles(cgroup))
  const procs = (tasks === undefined ? undefined : countTasks(tasks)) ?? host.procs
  const levels = [...legacy, ...unified]
  const memory = lxcfs ? asLxcfs(machine, levels) : withinLimits(machine, levels)
  return { uptime: 0, loads: host.loads, procs, ...memory }
}

/** Returns the seconds since the container's init started, rounded up as the kernel does. */
export const uptime = (startedMs: number, now: number): number =>
  within(Math.ceil((now - startedMs) / 1000), 0x7fff_ffff)

const within = (value: number, most: number): number => Math.max(0, Math.min(value, most))
const least = (values: readonly number[]): number => Math.min(Number.POSITIVE_INFINITY, ...values)

/**
 * Returns the memory of a container. Its total is the smallest limit of all levels; its free memory is the smallest
 * amount that is free at any level or on the machine. Page cache counts as free, since it can be reclaimed at once;
 * otherwise a container that has read many files would seem to be full. If no level has a limit, the machine's
 * figures hold.
 *
 * @param levels the container's cgroup and its ancestors, innermost first
 */
export function withinLimits(machine: HostSysinfo, levels: readonly Level[]): Memory {
  return { ...ram(machine, levels), ...swap(machine, levels) }
}

/**
 * Returns the memory of a container as lxcfs shows it in its /proc/meminfo. Page cache is used memory there, as in
 * sysinfo(2) of the kernel: programs such as busybox's free subtract the cache of /proc/meminfo from the used memory.
 */
export function asLxcfs(machine: HostSysinfo, levels: readonly Level[]): Memory {
  const [own] = levels
  if (own === undefined) return withinLimits(machine, levels)
  const totalram = least([machine.totalram, ...levels.map(({ limit }) => limit)])
  const freeram = within(totalram - own.usage, totalram)
  return { ...swap(machine, levels), totalram, freeram, sharedram: within(own.shared, totalram), bufferram: 0 }
}

function ram(
  machine: HostSysinfo,
  levels: readonly Level[],
): Pick<Memory, 'totalram' | 'freeram' | 'sharedram' | 'bufferram'> {
  const limited = levels.filter(({ limit }) => limit < machine.totalram)
  const [own] = levels
  if (!own || limited.length === 0) {
    const { totalram, freeram, sharedram, bufferram } = machine
    return { totalram, freeram, sharedram, bufferram }
  }
  const totalram = least(limited.map(({ limit }) => limit))
  const free = least(limited.map(({ limit, used }) => limit - used))
  const freeram = within(Math.min(free, machine.available), totalram)
  const bufferram = within(own.kernelCache, totalram - freeram)
  return { totalram, freeram, bufferram, sharedram: within(own.shared, totalram) }
}

function swap(machine: HostSysinfo, levels: readonly Level[]): Pick<Memory, 'totalswap' | 'freeswap'> {
  const limited = levels.filter(({ swapLimit }) => swapLimit < machine.totalswap)
  const totalswap = least([machine.totalswap, ...limited.map(({ swapLimit }) => swapLimit)])
  const free = least([machine.freeswap, ...limited.map(({ swapLimit, swapUsed }) => swapLimit - swapUsed)])
  return { totalswap, freeswap: within(free, totalswap) }
}
