import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import type { Tid, TypedDev } from '../../abi/brand.ts'
import { S_IFBLK, S_IFCHR, typedDev } from '../../abi/stat.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { DeviceRules } from '../../calls/caller.ts'
import { now } from '../../kernel/clock.ts'
import { deviceGroups, visibleMounts } from '../../mounter/join-cgroups.ts'
import { GRANTED, NOBODYS, numbersOf } from '../../policy/devices.ts'
import type { FairTurns } from '../helpers/fair-turns.ts'
import type { SpawnGuard } from '../helpers/spawn-guard.ts'
import { type DeviceRulesCache, encodeRules, HANDOVER, RulesKeys } from './device-rules-cache.ts'
import { DeviceProbe, type FoundRules } from './probe-device-rules.ts'

/** How many devices one probe tries, besides the device that a call waits for. */
const USUAL_LIMIT = 16
/** The first and the longest pause between two looks whether a probe's caller still waits. */
const LOOK_MS = { from: 50, to: 1000 } as const
/**
 * How long the mount points of the hierarchies are remembered: with many mounts on the host, reading them takes long.
 */
const MOUNTS_MS = 1000
/**
 * For how many containers of the previous engine the rules are probed at once: all of them would occupy the processors.
 */
const INHERITED = 8

interface ProbeDependencies {
  readonly guard: SpawnGuard
  readonly turns: FairTurns
  readonly cache: DeviceRulesCache
  readonly seed: Uint8Array
}

interface Question {
  readonly container: Container
  /** The thread that waits: when it is gone, the probe stops. */
  readonly tid: Tid
  /** As /proc/PID/cgroup shows them; or HANDOVER. */
  readonly groups: string
  readonly devices: readonly TypedDev[]
}

/**
 * Finds out what device rules allow, in the main thread: for all devices of a container's policy at once, when it is
 * handed over and when a call asks for one of them that `DeviceRulesCache` does not have.
 */
export class DeviceProbes {
  readonly #dependencies: ProbeDependencies
  readonly #keys: RulesKeys
  /** Running probes, by container and groups. */
  readonly #running = new Map<
    string,
    { readonly devices: readonly TypedDev[]; readonly found: Promise<FoundRules | undefined> }
  >()
  /** Containers that exist. */
  readonly #serials = new Set<number>()
  /**
   * Containers of which it is known that they were handed over with rules that deny what they do not name. Later
   * nobody can ask where a group has controllers for groups below it, and so no processes.
   */
  readonly #denying = new Set<number>()
  #inherited = 0
  #mounts = { are: new Map() as ReadonlyMap<string, string>, until: 0 }

  constructor(dependencies: ProbeDependencies) {
    this.#dependencies = dependencies
    this.#keys = new RulesKeys(dependencies.seed)
  }

  /** Serves a container from now on. @param isNew it was just handed over, so its first call may come soon */
  admit(container: Container, isNew: boolean): void {
    this.#serials.add(container.serial)
    if (!container.policy.mknod || container.barred || container.initTid <= 0) return
    if (isNew || this.#inherited++ < INHERITED)
      this.#dependencies.turns.take(container.index, () => this.#tryInit(container))
  }

  forget({ serial }: Container): void {
    this.#serials.delete(serial)
    this.#denying.delete(serial)
  }

  /**
   * @returns undefined if the rules cannot be found out
   */
  async ask(
    container: Container,
    asked: Omit<Question, 'container' | 'devices'> & { readonly dev: TypedDev },
  ): Promise<DeviceRules | undefined> {
    const { tid, groups, dev } = asked
    if (groups === HANDOVER && this.#denying.has(container.serial)) return DENIED
    const devices = groups === HANDOVER ? NOBODYS_TYPED : [...new Set([dev, ...usual(container)])]
    const found = await this.#find({ container, tid, groups, devices })
    return found?.get(dev)
  }

  async #tryInit(container: Container): Promise<void> {
    try {
      const groups = readFileSync(`/proc/${container.initTid}/cgroup`, 'latin1')
      const devices = usual(container)
      const tid = container.initTid
      if (devices.length > 0) await this.#find({ container, tid, groups, devices })
      if (container.policy.mknod?.devices.has(GRANTED))
        await this.#find({ container, tid, groups: HANDOVER, devices: NOBODYS_TYPED })
    } catch {
      // The container is gone, or the host is short of something: a call will ask again.
    }
  }

  /** Joins a running probe for the same question; the thread that asked first may end before there is an answer. */
  async #find(question: Question): Promise<FoundRules | undefined> {
    const { devices } = question
    const running = this.#running.get(keyOf(question))
    const isSame = running && devices.every((dev) => running.devices.includes(dev))
    return (isSame && (await running.found)) || (await this.#begin(question))
  }

  #begin(question: Question): Promise<FoundRules | undefined> {
    const { container, groups, devices } = question
    const key = keyOf(question)
    const found = this.#try(question).catch(() => undefined)
    this.#running.set(key, { devices, found })
    void found.then((rules) => {
      if (this.#running.get(key)?.found === found) this.#running.delete(key)
      if (rules) this.#note(container, groups, rules)
    })
    return found
  }

  /** Keeps the answer for later calls. The container may be gone by now, and another one may have its number. */
  #note({ index, serial }: Container, groups: string, rules: FoundRules): void {
    if (!this.#serials.has(serial)) return
    if (groups === HANDOVER && [...rules.values()].every(({ open }) => !open)) this.#denying.add(serial)
    const length = this.#keys.text.write(groups, 'latin1')
    for (const [dev, found] of rules)
      this.#dependencies.cache.set(index, this.#keys.keyOf(dev, length), encodeRules(found))
  }

  /**
   * A container can make the probe wait as long as it likes, with a freezer or with processes that use up the group's
   * processor time. The caller is in the same group and waits too, which costs nothing: the probe continues when the
   * group does.
   */
  async #try({ container, tid, groups, devices }: Question): Promise<FoundRules | undefined> {
    const { guard, turns } = this.#dependencies
    const mounts = this.#visibleMounts()
    const directories = groups === HANDOVER ? handedOverIn(container) : deviceGroups(groups, mounts)
    const own = deviceGroups(readFileSync('/proc/self/cgroup', 'latin1'), mounts)
    using probe = new DeviceProbe(guard, directories, own, devices)
    for (let pause: number = LOOK_MS.from; !(await probe.endsWithin(pause)); pause = Math.min(2 * pause, LOOK_MS.to))
      if (!this.#serials.has(container.serial) || !existsSync(`/proc/${tid}`)) return undefined
    return await turns.takeForResult(container.index, () => probe.found)
  }

  #visibleMounts(): ReadonlyMap<string, string> {
    const time = now()
    if (this.#mounts.until < time) this.#mounts = { are: visibleMounts(), until: time + MOUNTS_MS }
    return this.#mounts.are
  }
}

const keyOf = ({ container, groups }: Question): string => `${container.serial} ${groups}`

const usual = ({ policy }: Container): readonly TypedDev[] =>
  numbersOf(policy.mknod?.devices ?? [])
    .slice(0, USUAL_LIMIT)
    .map((dev) => typedDev(S_IFCHR, dev))

const NOBODYS_TYPED = [S_IFCHR, S_IFBLK].map((type) => typedDev(type, NOBODYS))
const DENIED: DeviceRules = { mknod: true, open: false, full: false }

/** Returns the directories of the groups in which a container was handed over, whatever groups it has made since. */
const handedOverIn = ({ handles }: Container): readonly string[] =>
  [handles?.cgroup, handles?.devices].flatMap((fd) =>
    fd === undefined ? [] : [readlinkSync(`/proc/self/fd/${fd}`, 'latin1')],
  )
