/** The bytes that two numbers of a record hold. */
const SIZE = 8
/** Ends a name that was cut; no name of a file system has this byte. */
const CUT = 1

/** Packs a name into the two numbers of a reason, for a record has no room for texts; a long name is cut. */
export function packName(name: string): readonly [a: number, b: number] {
  const bytes = Buffer.alloc(SIZE)
  bytes.write(name, 'latin1')
  if (name.length > SIZE) bytes[SIZE - 1] = CUT
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** Unpacks a name, in quotes. It comes from a container: what is not printable becomes a question mark. */
export function unpackName(a: number, b: number): string {
  const bytes = Buffer.alloc(SIZE)
  bytes.writeUInt32LE(a, 0)
  bytes.writeUInt32LE(b, 4)
  const isCut = bytes[SIZE - 1] === CUT
  const text = bytes.toString('latin1', 0, isCut ? SIZE - 1 : SIZE).replace(/\0.*$/s, '')
  return `"${text.replaceAll(/[^!#-~]/g, '?')}${isCut ? '...' : ''}"`
}
