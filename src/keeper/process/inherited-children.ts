import { children, hasEnded } from '../../kernel/process.ts'

/**
 * Reaps the children that the previous program in this process has started (see `Reexec`): an engine whose threads hang
 * in a file system of a container may end much later. To be made before this program starts a child, or that child
 * would be reaped here too, in place of Node.
 */
export class InheritedChildren {
  #pids = children()

  /** Reaps the children that have ended. To be called once a second. */
  look(): void {
    this.#pids = this.#pids.filter((pid) => !hasEnded(pid))
  }
}
