import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { deviceNames } from '../kernel/device-names.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { userDirectory } from '../runtimes/flags.ts'
import { readText } from '../runtimes/text-file.ts'

/** Returns the path of the configuration that the daemon, or that of a user, reads if it is there. */
export const configFile = (user: boolean): string => join(user ? userDirectory() : '/etc/intercede', 'config.yaml')

/** Returns the path if the file is there; it may come later, and counts from the next SIGHUP. */
export function configFileIfThere(user: boolean): string | undefined {
  const file = configFile(user)
  return existsSync(file) ? file : undefined
}

/** Reads the daemon's configuration. @throws {Error} if it cannot be read, or is wrong */
export function readConfiguration(file: string): Config {
  let text: string
  try {
    text = readText(file)
  } catch (error) {
    throw new Error(`Cannot read configuration "${file}": ${(error as Error).message}`)
  }
  return parseConfig(text, file, deviceNames)
}
