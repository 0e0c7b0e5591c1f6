import { join } from 'node:path'

/** Where runtimes connect, unless they are told otherwise. */
export const SOCKET = '/run/intercede/oci.sock'

/** The same for the daemon of a user. @throws {Error} if there is no directory for that */
export function userSocket(): string {
  const { XDG_RUNTIME_DIR: directory } = process.env
  if (!directory?.startsWith('/'))
    throw new Error(
      'Cannot name the socket: XDG_RUNTIME_DIR is not set; log in as that user, or use --socket or --listener',
    )
  return join(directory, 'intercede/oci.sock')
}
