import { children, hasEnded } from '../../kernel/process.ts'

/**
 * Reaps the children that the previous program in this process has started (see `Reexec`): an engine whose threads hang
 * in a container's file system may end much later. Make this object before the program starts a child: otherwise it
 * would reap that child, too, instead of Node.
 */
export class InheritedChildren {
  #pids = children()

  /** Reaps ended children. To be called once a second. */
  look(): void {
    this.#pids = this.#pids.filter((pid) => !hasEnded(pid))
  }
}
