import { lstatSync, type Stats } from 'node:fs'
import { rootOwners } from './own-files.ts'

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

/** Watches /dev/null, which a container may get at any time: each flaw is said once, until it is mended. */
export class NullDevice {
  #said: string | undefined

  /** @returns a flaw that was not there at the last look */
  look(): string | undefined {
    const flaw = nullFlaw()
    const isNew = flaw !== this.#said
    this.#said = flaw
    return isNew ? flaw : undefined
  }
}
