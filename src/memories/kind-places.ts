/** The first counters count what has none of its own: one for each verdict. */
export const OTHERS = 4

/** Spreads keys of kinds of calls over the places of a table. */
export const spreadKey = (key: number): number => Math.imul(key, 0x9e37_79b1) >>> 16
