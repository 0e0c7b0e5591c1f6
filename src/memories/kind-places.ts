/** The first counters, one for each verdict, count kinds without a counter of their own. */
export const OTHERS = 4

/** Spreads keys of kinds of calls over the places of a table. */
export const spreadKey = (key: number): number => Math.imul(key, 0x9e37_79b1) >>> 16
