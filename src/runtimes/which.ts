import { accessSync, constants } from 'node:fs'

const SEARCH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * Returns the path of a program. The sbin directories are searched too, since administrators' PATH often lacks them.
 */
export const which = (name: string): string | undefined =>
  `${process.env.PATH ?? ''}:${SEARCH}`
    .split(':')
    .map((directory) => `${directory}/${name}`)
    .find((path) => path.startsWith('/') && isExecutable(path))
