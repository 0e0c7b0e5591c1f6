/**
 * The notes of acts that give the caller a descriptor (see `Caller.note`): the next engine knows by them whether the
 * caller has it already. The upper two bits say what the rest names; no other note of such an act has one of them.
 */
const KEPT = 1n << 62n
const STAND_IN = 1n << 63n
const WORD = 0xffff_ffffn

/** A kept context or mount: which entry of the store it is, and how often that was made new. */
export interface KeptName {
  readonly index: number
  readonly serial: number
}

export const noteOfKept = ({ index, serial }: KeptName): bigint =>
  KEPT | (BigInt(index) << 32n) | (BigInt(serial) & WORD)

export const noteOfStandIn = (inode: bigint): bigint => STAND_IN | inode

/** What a note names; undefined for a note of another kind. */
export function namedBy(note: bigint): { readonly kept: KeptName } | { readonly standIn: bigint } | undefined {
  if ((note & STAND_IN) !== 0n) return { standIn: note & ~STAND_IN }
  if ((note & KEPT) === 0n) return undefined
  return { kept: { index: Number((note & ~KEPT) >> 32n), serial: Number(note & WORD) } }
}
