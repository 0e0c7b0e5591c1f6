import { STORE_WORDS } from '../caller/programs/bpf-program-store.ts'
import { struct } from '../shared/words.ts'
import { CONTAINERS } from './limits.ts'

/** How many entries of contexts and mounts there are, for all containers: see `FsContextStore`. */
export const ENTRIES = 256
/** Of each: as many bytes of parameters as mount(2) takes, a page. */
export const PARAMETERS = 4096
/**
 * owner: the serial of a container, 0 for none. serial: how often the entry was made new. doomed: that serial once it
 * shall end. All others are the owner's.
 */
export const [ENTRY, ENTRY_WORDS] = struct({
  owner: 1,
  kind: 1,
  given: 1,
  made: 1,
  unlockedCopy: 1,
  born: 1,
  length: 1,
  doomed: 1,
  holder: 1,
  holderFd: 1,
  serial: 1,
  before: 1,
  beforeSerial: 1,
})

/** How many file systems of a container are known. Of more, the newest. */
export const MADE_PER_CONTAINER = 64
/** For each container: how many were made, and the two words of each id. */
export const MADE_WORDS = 1 + 2 * MADE_PER_CONTAINER

const [WORD, WORDS] = struct({
  layout: 1,
  serials: CONTAINERS,
  contexts: ENTRIES * (ENTRY_WORDS + PARAMETERS / 4),
  programs: CONTAINERS * STORE_WORDS,
  made: CONTAINERS * MADE_WORDS,
})

/**
 * The number of the layout of this memory and of all that lies in it: memory of another layout is of no use. A test
 * fails if the layout was changed and the number was not.
 */
const CURRENT = 4

/** Where the parts of the memory that outlives the engine begin, in words: see `PersistentState`. */
export const PERSISTENT = WORD
/** In bytes. */
export const PERSISTENT_SIZE = 4 * WORDS

/** Writes into new memory how it is used. */
export function markPersistent(memory: ArrayBuffer): void {
  new Int32Array(memory)[WORD.layout] = CURRENT
}

/** Was this memory used by a program with the same layout? */
export const isPersistent = (memory: ArrayBuffer): boolean =>
  memory.byteLength === PERSISTENT_SIZE && new Int32Array(memory)[WORD.layout] === CURRENT
