import { readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { shellWord } from '../shell-word.ts'
import { isClosedItself, openWay } from './closed.ts'
import type { HostTree } from './host-tree.ts'

const DANGER = 'what the container makes there has the ids of the host, setuid programs and devices of root too'

/**
 * Tells why a tree must not be written to with the ids of the host, and the remedy; undefined if only root can reach
 * it.
 */
export function whyNotOnlyRoot(tree: HostTree): string | undefined {
  const { path, isStraight } = tree
  if (!isStraight) {
    const real = readlinkSync(`/proc/self/fd/${tree.raw}`)
    return `a symbolic link is on its way, and whose link that is chooses where it leads; use ${shellWord(real)}`
  }
  const stat = tree.stat()
  if (!stat.isDirectory() && stat.nlink > 1) {
    return `the file has ${stat.nlink} names, and users of the host may reach it by another; use a copy of it`
  }
  const way = openWay(tree)
  if (way === undefined) return undefined
  if (way !== path) return `users of the host other than root can reach it at "${way}", and ${DANGER}; unmount it there`
  return stat.isDirectory() && isClosedItself(tree) ? toGoDown(path) : toMove(path)
}

const toGoDown = (path: string): string =>
  `only "${path}" itself keeps users of the host out, and the container can open it, and ${DANGER}; ` +
  `use a directory in it: mkdir ${shellWord(join(path, 'tree'))}`

function toMove(path: string): string {
  const closed = join(dirname(path), 'closed')
  return (
    `users of the host other than root can reach it, and ${DANGER}; put it into a directory of root of mode 0700: ` +
    `install -d -m 700 ${shellWord(closed)} && mv ${shellWord(path)} ${shellWord(`${closed}/`)}`
  )
}
