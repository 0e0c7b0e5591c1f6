import { join } from 'node:path'
import { InvalidArgumentError } from 'commander'

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

/** Checks the path of a socket: sun_path holds 108 bytes with the NUL; runtimes notice that only at container start. */
export function socketPath(path: string): string {
  // A socket has a name of its own; what follows a colon or a semicolon is another word in the files of LXC.
  if (/^\/[^\s;]*[^\s;/]$/.test(path) && Buffer.byteLength(path) < 108) return path
  throw new InvalidArgumentError('It must be an absolute path of at most 107 bytes, without spaces and semicolons.')
}
