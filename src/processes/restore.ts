/**
 * Brings a mounter back to where it belongs, after it stood in a place of a container or of a request.
 *
 * @throws {Error} never a SyscallError, which would be taken for an answer: a process that cannot come home must end
 */
export function restoreOrDie(action: () => void): void {
  try {
    action()
  } catch (error) {
    throw new Error(`Cannot come home: ${(error as Error).message}`)
  }
}
