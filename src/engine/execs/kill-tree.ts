import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Tid } from '../../abi/brand.ts'
import { orElse } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { pidfdIsAlive, pidfdOpen, signalTo } from '../../kernel/pidfd.ts'
import { forkedBy } from '../../kernel/process.ts'

const { SIGSTOP, SIGKILL } = constants.signals
/** The most processes that are killed: a container's program may fork without end, and the rest continues there. */
const LIMIT = 256
/** The most threads whose children are listed: a program may have 10,000 threads, and each list takes 10 us. */
const THREADS = 1024

interface HeldProcess {
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
  const found: HeldProcess[] = [{ pid: child, pidfd: pidfdOpen(child) }]
  let threads = THREADS
  for (const parent of found) {
    signalTo(parent.pidfd, SIGSTOP)
    const listed = threadsOf(parent.pid).slice(0, threads)
    threads -= listed.length
    for (const pid of listed.flatMap(childrenOf).slice(0, LIMIT - found.length)) {
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
function hold(pid: number, parent: HeldProcess): Fd | undefined {
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

const threadsOf = (pid: number): readonly string[] =>
  orElse([], () => readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}`))

/** @param thread its directory in /proc */
const childrenOf = (thread: string): readonly number[] =>
  orElse([], () => readFileSync(`${thread}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number))
