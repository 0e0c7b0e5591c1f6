import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { S_IXOTH } from '../../abi/stat.ts'

/**
 * Tells whether every user of the host can reach what is in a directory: no directory on the way is closed to others.
 */
export function isReachable(path: string): boolean {
  for (let directory = realpathSync(path); ; directory = dirname(directory)) {
    if ((statSync(directory).mode & S_IXOTH) === 0) return false
    if (directory === dirname(directory)) return true
  }
}
