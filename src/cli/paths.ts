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

/** Default path of the socket on which runtimes connect. */
export const SOCKET = '/run/intercede/oci.sock'
/** Default path of the socket on which LXC's monitors connect. */
export const LXC_SOCKET = '/run/intercede/lxc.sock'

/** Default path of the same socket for a user's daemon. @throws {Error} if XDG_RUNTIME_DIR is not set */
export function userSocket(): string {
  const { XDG_RUNTIME_DIR: directory } = process.env
  if (!directory?.startsWith('/'))
    throw new Error(
      'Cannot name the socket: XDG_RUNTIME_DIR is not set; log in as that user, or use --socket or --listener',
    )
  return join(directory, 'intercede/oci.sock')
}
