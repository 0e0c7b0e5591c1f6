/**
 * Runs `action`, which returns a mounter from a container or request to its resting state.
 *
 * @throws {Error} if it fails; never a SyscallError, which would be sent as an answer, since the process must then
 *   end
 */
export function restoreOrDie(action: () => void): void {
  try {
    action()
  } catch (error) {
    throw new Error(`Cannot come home: ${(error as Error).message}`)
  }
}
