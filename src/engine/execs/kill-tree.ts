import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Tid } from '../../abi/brand.ts'
import type { Fd } from '../../kernel/fd.ts'
import { pidfdIsAlive, pidfdOpen, signalTo } from '../../kernel/pidfd.ts'
import { forkedBy } from '../../kernel/process.ts'

const { SIGSTOP, SIGKILL } = constants.signals
/** How many processes are killed at most: a program of a container may fork without end, and the rest goes on there. */
const LIMIT = 256

interface Found {
  readonly pid: number
  readonly pidfd: Fd
}

/**
 * Kills a child of ours and its descendants. Each process is stopped before its children are listed, so that it cannot
 * fork any more, nor exit and leave its children to init before they were found.
 *
 * Precondition: `child` was not reaped yet, so that its pid cannot be another process's.
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

/**
 * Opens a pidfd of a child of `parent`.
 *
 * @returns undefined if `pid` is no child of `parent`: since they were listed, both numbers may have been reused
 */
function hold(pid: number, parent: Found): Fd | undefined {
  let pidfd: Fd | undefined
  try {
    pidfd = pidfdOpen(pid)
    if (forkedBy(pid as Tid) === parent.pid && pidfdIsAlive(parent.pidfd)) return pidfd
  } catch {
    // The process has ended.
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
