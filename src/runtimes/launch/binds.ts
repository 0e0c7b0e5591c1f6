import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { MOUNT_ATTR_RDONLY } from '../../abi/mount.ts'
import type { Handle } from '../../kernel/handle.ts'
import { graft, inside } from './tree.ts'

/** A directory of the host that the container sees. */
export interface Bind {
  readonly source: string
  readonly target: string
  readonly readonly: boolean
}

/**
 * Parses `--bind DIR[:DIR][:ro]`.
 *
 * @throws {Error} if the first DIR is no directory of the host, or the second is not absolute
 */
export function readBind(text: string): Bind {
  const parts = text.split(':')
  const readonly = parts.length > 1 && parts.at(-1) === 'ro'
  if (readonly) parts.pop()
  const [given = '', target = resolve(given), ...rest] = parts
  const source = resolve(given)
  if (rest.length) throw new Error(`Cannot use --bind "${text}": the form is DIR[:DIR][:ro]`)
  if (!target.startsWith('/')) throw new Error(`Cannot use --bind "${text}": the container's path must be absolute`)
  if (!statSync(source, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(`Cannot use --bind "${text}": "${source}" is not a directory of the host`)
  }
  return { source, target, readonly }
}

/** Mounts a bind directory. Owners are not mapped: files of the host's root belong to nobody in the container. */
export function placeBind(root: Handle, { source, target, readonly }: Bind): void {
  using directory = inside(root, target)
  graft(source, directory, { recursive: true, set: readonly ? MOUNT_ATTR_RDONLY : 0n })
}
