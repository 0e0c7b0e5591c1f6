import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Tid } from '../../abi/brand.ts'
import type { Fd } from '../../kernel/fd.ts'
import { pidfdIsAlive, pidfdOpen, signalTo } from '../../kernel/pidfd.ts'
import { forkedBy } from '../../kernel/process.ts'

const { SIGSTOP, SIGKILL } = constants.signals
/** A program of a container may make as many as it likes: what is beyond that goes on in the container. */
const LIMIT = 256

interface Found {
  readonly pid: number
  readonly pidfd: Fd
}

/**
 * Kills a child of ours, which was not waited for yet, with all that it has started. Each is stopped before its children are
 * looked for: so it makes no more, and they stay its own until they have been told.
 */
export function killTree(child: number): void {
  const found: Found[] = [{ pid: child, pidfd: pidfdOpen(child) }]
  for (const parent of found) {
    signalTo(parent.pidfd, SIGSTOP)
    for (const pid of childrenOf(parent.pid).slice(0, LIMIT - found.length)) {
      const pidfd = hold(pid, parent)
      if (pidfd) found.push({ pid, pidfd })
    }
  }
  for (const { pidfd } of found) {
    signalTo(pidfd, SIGKILL)
    pidfd[Symbol.dispose]()
  }
}

/** @returns undefined if the number is not, or not any more, that of a child of `parent`, whose own number may be another's by now */
function hold(pid: number, parent: Found): Fd | undefined {
  let pidfd: Fd | undefined
  try {
    pidfd = pidfdOpen(pid)
    if (forkedBy(pid as Tid) === parent.pid && pidfdIsAlive(parent.pidfd)) return pidfd
  } catch {
    // It has ended.
  }
  pidfd?.[Symbol.dispose]()
  return undefined
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number),
    )
  } catch {
    return []
  }
}
