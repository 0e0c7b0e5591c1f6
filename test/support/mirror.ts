// The mirror of Debian, and whether it can be reached: for tests that unpack a system.

export const SUITE = 'trixie'
export const MIRROR = process.env.DEBIAN_MIRROR ?? 'http://deb.debian.org/debian'

/** Why nothing can be fetched; undefined if it can. */
export async function unreachable(): Promise<string | undefined> {
  try {
    const { status } = await fetch(`${MIRROR}/dists/${SUITE}/InRelease`, {
      method: 'HEAD',
      signal: AbortSignal.timeout(10_000),
    })
    return status === 200 ? undefined : `${MIRROR} answers with ${status}`
  } catch (error) {
    return `${MIRROR} cannot be reached: ${(error as Error).message}`
  }
}
