import { check, libc } from './libc.ts'

const libcGetrandom = libc.func('long getrandom(uint8_t *bytes, size_t length, uint32_t flags)')

/**
 * Returns up to 256 random bytes, which nobody can foretell. Node's own way loads all of its cryptography, in a
 * millisecond or two.
 *
 * @see getrandom(2)
 */
export function randomBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  check('getrandom', Number(libcGetrandom(bytes, length, 0)))
  return bytes
}

/** Returns a random number from 1 to 2^31 - 1. */
export function randomNumber(): number {
  const [word = 0] = new Uint32Array(randomBytes(4).buffer)
  return word & 0x7fff_ffff || 1
}
