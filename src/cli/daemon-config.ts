import { deviceNames } from '../kernel/device-names.ts'
import { type Config, parseConfig } from '../policy/config.ts'
import { readText } from '../runtimes/text-file.ts'

/**
 * Reads the daemon's configuration. It is a file of its own, since the help needs only the path of the configuration.
 *
 * @throws {Error} if it cannot be read, or is wrong
 */
export function readConfiguration(file: string): Config {
  let text: string
  try {
    text = readText(file)
  } catch (error) {
    throw new Error(`Cannot read configuration "${file}": ${(error as Error).message}`)
  }
  return parseConfig(text, file, deviceNames)
}
