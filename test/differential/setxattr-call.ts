import { architectures } from '../../src/abi/syscalls.ts'
import { callerWords, chain, hex, pathArgument, type Walk, walkOf } from './path.ts'
import type { Places } from './places.ts'
import { callName, namesAt, namesDescriptor, sizeOf, type XattrCase } from './setxattr-case.ts'

const HELD = 9
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const numbers: Readonly<Record<string, number>> = architectures.x86_64.numbers

const terminated = (text: string): string => hex(Buffer.from(`${text}\0`, 'latin1'))

/** An argument of `batch-calls` that points at bytes, or does not. */
function pointed(pointer: XattrCase['namePointer'], bytes: string): string {
  if (pointer === 'null' || pointer === 'unmapped') return `${pointer}:`
  return `${pointer === 'good' ? 'b' : pointer}:${bytes}`
}

/** Where the object is that a path ends at, or the directory in which it would be. */
function objectPath({ scene }: XattrCase, places: Places): string {
  const { last, directories } = scene
  const there = last.kind === 'there' || last.kind === 'thereSlash' ? [last.target] : []
  return [places.seen(scene), ...chain.slice(0, directories.length), ...there].join('/')
}

/** The arguments that name the inode. */
function inode(one: XattrCase, walk: Walk): readonly string[] {
  const { scene, naming } = one
  const path = pathArgument(scene, walk.path)
  if (!namesAt(one)) return [namesDescriptor(one) ? `i:${naming === 'badDescriptor' ? 77 : HELD}` : path]
  switch (naming) {
    case 'atLink':
      return [`i:${walk.dirfd}`, path, `i:${AT_SYMLINK_NOFOLLOW}`]
    case 'atEmpty':
      return [`i:${walk.dirfd}`, `b:${terminated('')}`, `i:${AT_EMPTY_PATH}`]
    case 'atNull':
      return [`i:${walk.dirfd}`, 'null:', `i:${AT_EMPTY_PATH}`]
    case 'atBad':
      return [`i:${walk.dirfd}`, path, 'i:0x200']
    default:
      return [`i:${walk.dirfd}`, path, 'i:0']
  }
}

/** Where a value or names go, or where a value is. */
function buffer(one: XattrCase): string {
  const { operation, value, valuePointer } = one
  const size = sizeOf(one)
  // A size beyond the limit of the kernel (E2BIG) needs no bytes.
  if (operation === 'set') return pointed(valuePointer, hex(Buffer.alloc(Math.min(size, 1000) || 1, value || '.')))
  if (valuePointer === 'null' || valuePointer === 'unmapped') return `${valuePointer}:`
  return `o:${Math.min(size, 4096)}`
}

/** What follows the inode, with the pointer that a struct holds. */
function rest(one: XattrCase): readonly string[] {
  const { operation, name, namePointer, flags } = one
  const size = sizeOf(one)
  const named = `a=${pointed(namePointer, terminated(name))}`
  if (operation === 'remove') return [named]
  if (operation === 'list') return [`a=${buffer(one)}`, `a=i:${size}`]
  if (!namesAt(one)) return [named, `a=${buffer(one)}`, `a=i:${size}`, `a=i:${flags}`]
  const numbers = Buffer.alloc(8)
  numbers.writeUInt32LE(size)
  numbers.writeInt32LE(flags, 4)
  return [`p=${buffer(one)}`, named, `a=b:${hex(Buffer.concat([Buffer.from('{p0}'), numbers]))}`, 'a=i:16']
}

/** A line for `batch-calls`. */
export function callOf(one: XattrCase, places: Places, caps?: bigint): string {
  const walk = walkOf(one.scene, places.seen(one.scene))
  const words = callerWords(one.scene, walk, caps)
  const object = hex(objectPath(one, places))
  const held = namesDescriptor(one) ? ` ${one.naming === 'handle' ? 'handle' : 'fd'}=${HELD}:${object}` : ''
  const args = inode(one, walk).map((argument) => `a=${argument}`)
  return `case ${words}${held} nr=${numbers[callName(one)]} ${[...args, ...rest(one)].join(' ')}`
}
