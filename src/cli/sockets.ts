import { join } from 'node:path'

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
