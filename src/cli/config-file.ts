import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { userDirectory } from '../runtimes/flags.ts'

/** Returns the path of the configuration that the daemon, or that of a user, reads if it is there. */
export const configFile = (user: boolean): string => join(user ? userDirectory() : '/etc/intercede', 'config.yaml')

/** Returns the path if the file is there; it may come later, and counts from the next SIGHUP. */
export function configFileIfThere(user: boolean): string | undefined {
  const file = configFile(user)
  return existsSync(file) ? file : undefined
}
