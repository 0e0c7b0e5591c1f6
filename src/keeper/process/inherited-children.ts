import { children, hasEnded } from '../../kernel/process.ts'

/**
 * Children of this process that are not of this program, but of the one that it was before: an engine whose threads hung in
 * a file system of a container may end much later, and nobody else takes note of that. To be made before any child is started.
 */
export class InheritedChildren {
  #pids = children()

  /** To be called now and then. */
  look(): void {
    this.#pids = this.#pids.filter((pid) => !hasEnded(pid))
  }
}
