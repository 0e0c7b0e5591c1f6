import { syscallName } from '../abi/syscalls.ts'
import type { CallRecord } from '../calls/record.ts'
import type { Policy } from '../policy/policy.ts'

/** The calls by which a program asks for a file system. */
const ASKS: ReadonlySet<string | undefined> = new Set(['mount', 'fsopen'])

/**
 * Knows what to say if a command fails that has never asked for a file system of `mount.fuse`. For an image file of a
 * type that it knows mount(8) gives up before it asks: it wants a loop device, which no container can make.
 */
export class FuseHint {
  readonly #types: readonly (readonly [type: string, program: string])[]
  #isAsked = false

  constructor({ mount }: Policy) {
    this.#types = [...(mount?.fuse ?? [])]
  }

  add({ arch, nr }: CallRecord): void {
    this.#isAsked ||= ASKS.has(syscallName(arch, nr))
  }

  lines(): readonly string[] {
    const [first] = this.#types
    if (this.#isAsked || first === undefined) return []
    return [
      'nobody asked for a file system of mount.fuse; for an image file, of which mount(8) would make a loop device, ' +
        `give the type a name of its own: -c mount.fuse=image=${first[1]}, and mount -t image FILE DIRECTORY`,
    ]
  }
}
