/** The resources of setrlimit(2), include/uapi/asm-generic/resource.h: x86 and arm have the same numbers. */
export const RLIMIT = {
  ...{ CPU: 0, FSIZE: 1, DATA: 2, STACK: 3, CORE: 4, RSS: 5, NPROC: 6, NOFILE: 7, MEMLOCK: 8, AS: 9, LOCKS: 10 },
  ...{ SIGPENDING: 11, MSGQUEUE: 12, NICE: 13, RTPRIO: 14, RTTIME: 15 },
} as const
export const RLIM_NLIMITS = 16
export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn
/** The same in programs of 32 bits, for setrlimit(2). */
const RLIM32_INFINITY = 0xffff_ffff

/** The two limits of a process on one resource. */
export interface ResourceLimit {
  readonly soft: bigint
  readonly hard: bigint
}

/** The size of the two limits where each has so many bits. */
export const limitSize = (bits: 32 | 64): number => bits / 4

/** Reads `struct rlimit` or `struct rlimit64`: the soft limit, then the hard one, little endian. */
export function decodeLimit(bytes: Uint8Array, bits: 32 | 64): ResourceLimit {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bits === 64) return { soft: view.getBigUint64(0, true), hard: view.getBigUint64(8, true) }
  const [soft, hard] = [0, 4].map((at) => view.getUint32(at, true)).map(fromWord) as [bigint, bigint]
  return { soft, hard }
}

const fromWord = (word: number): bigint => (word === RLIM32_INFINITY ? RLIM_INFINITY : BigInt(word))

/** Writes `struct rlimit64`. */
export function encodeLimit({ soft, hard }: ResourceLimit): Uint8Array {
  const bytes = new Uint8Array(limitSize(64))
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, soft, true)
  view.setBigUint64(8, hard, true)
  return bytes
}
