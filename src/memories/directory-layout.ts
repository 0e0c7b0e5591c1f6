import { struct } from '../shared/struct.ts'

/** A part of the directory: places of one size, each of which holds a text of JSON. */
export interface Section {
  readonly at: number
  readonly places: number
  readonly size: number
  /** The header's word with the number of places that were ever used. */
  readonly used: number
}

export const DIRECTORY_LAYOUT = 2
const HEADER = 4096
export const [DIRECTORY_WORD] = struct({
  ...{ layout: 1, size: 1, keeper: 1, engine: 1 },
  /** Raised once a second while the keeper runs. */
  beat: 1,
  /** 1 once the daemon has ended for good. */
  ended: 1,
  ...{ usedContainers: 1, usedEnded: 1, usedRefused: 1, usedEvents: 1, usedDaemon: 1 },
})

const KIB = 1024
const containers = { at: HEADER, places: 1024, size: 16 * KIB, used: DIRECTORY_WORD.usedContainers }
const endOf = ({ at, places, size }: Omit<Section, 'used'>): number => at + places * size
const ended = { at: endOf(containers), places: 256, size: 16 * KIB, used: DIRECTORY_WORD.usedEnded }
const refused = { at: endOf(ended), places: 64, size: 2 * KIB, used: DIRECTORY_WORD.usedRefused }
const events = { at: endOf(refused), places: 256, size: 2 * KIB, used: DIRECTORY_WORD.usedEvents }
const daemon = { at: endOf(events), places: 1, size: 4 * KIB, used: DIRECTORY_WORD.usedDaemon }

/**
 * Containers are ordered by number. The daemon has one place, for its own counters. The other sections are rings: ended
 * containers, refused hand-overs, and the last events.
 */
export const sections = { containers, ended, refused, events, daemon } as const satisfies Readonly<
  Record<string, Section>
>
export const DIRECTORY_SIZE = endOf(daemon)
/** A place begins with its version, odd while it is written, and the length of its text in bytes. */
export const PLACE_HEAD = 8
/**
 * The first line has what a list of containers needs: reading everything of a thousand containers takes five times as
 * long.
 */
const BRIEF: ReadonlySet<string> = new Set([
  ...[
    'id',
    'index',
    'serial',
    'runtime',
    'name',
    'image',
    'namespace',
    'pod',
    'bundle',
    'init',
    'on',
    'barred',
    'listeners',
  ],
])

/** Returns the text of a place: the JSON of one or two objects, each in its own line. */
export function entryText(about: object): string {
  const [brief, rest] = [true, false].map((is) => Object.entries(about).filter(([name]) => BRIEF.has(name) === is))
  return [brief!, rest!].map((some) => JSON.stringify(Object.fromEntries(some))).join('\n')
}

/** Reads the text of a place, or only its first line. */
export const entryOf = (text: string): Readonly<Record<string, unknown>> =>
  Object.assign({}, ...text.split('\n').map((line) => JSON.parse(line) as object))

export function formatDirectory(memory: ArrayBuffer): void {
  const words = new Int32Array(memory, 0, HEADER / 4)
  words[DIRECTORY_WORD.layout] = DIRECTORY_LAYOUT
  words[DIRECTORY_WORD.size] = DIRECTORY_SIZE
}

export const isDirectory = (memory: ArrayBuffer): boolean =>
  memory.byteLength === DIRECTORY_SIZE && isDirectoryHead(new Int32Array(memory, 0, HEADER / 4))

/** @param words the first words of a memory */
export const isDirectoryHead = (words: Int32Array): boolean =>
  words[DIRECTORY_WORD.layout] === DIRECTORY_LAYOUT && words[DIRECTORY_WORD.size] === DIRECTORY_SIZE
