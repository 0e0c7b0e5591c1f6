import { fstatSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { MOUNT_ATTR_RDONLY } from '../../abi/mount.ts'
import { isErrno } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { isReachable } from './reachable.ts'
import { graft, inside, insideFile } from './tree.ts'

/** A directory or file of the host that the container sees. */
export interface Bind {
  /** As it was given, for messages. */
  readonly text: string
  readonly source: string
  readonly target: string
  readonly isDirectory: boolean
  readonly readonly: boolean
  /** Whether an owner on the disk is the same number in the container. */
  readonly idmapped: boolean
}

const FORM = 'the form is PATH[:PATH][:ro][:idmap]'
const OPTIONS: ReadonlySet<string> = new Set(['ro', 'idmap'])

const cannot = (text: string, why: string): Error => new Error(`Cannot use --bind "${text}": ${why}`)

/**
 * Splits the text of `--bind`: options come last, each after a colon or a comma.
 *
 * @throws {Error} if it has more parts, or the second path is not absolute
 */
function split(text: string): { readonly paths: readonly string[]; readonly options: ReadonlySet<string> } {
  const [given = '', ...rest] = text.split(':')
  const options = new Set<string>()
  while (
    rest.length > 0 &&
    rest
      .at(-1)!
      .split(',')
      .every((word) => OPTIONS.has(word))
  ) {
    for (const word of rest.pop()!.split(',')) options.add(word)
  }
  const [target, more] = rest
  if (given === '' || more !== undefined) throw cannot(text, FORM)
  if (target !== undefined && !target.startsWith('/')) {
    throw cannot(text, `"${target}" is neither an absolute path in the container nor an option: ${FORM}`)
  }
  return { paths: target === undefined ? [given] : [given, target], options }
}

/**
 * Parses `--bind PATH[:PATH][:ro][:idmap]`.
 *
 * @throws {Error} if the first PATH cannot be shown, or what the container would make there is open to users of the
 *   host
 */
export function readBind(text: string): Bind {
  const { paths, options } = split(text)
  const source = resolve(paths[0]!)
  const found = statSync(source, { throwIfNoEntry: false })
  if (found === undefined) throw cannot(text, `there is no "${source}" on the host; make it first`)
  if (found.isCharacterDevice() || found.isBlockDevice()) {
    throw cannot(text, `"${source}" is a device; use --device "${source}"`)
  }
  const bind = {
    text,
    source,
    target: paths[1] ?? source,
    isDirectory: found.isDirectory(),
    readonly: options.has('ro'),
    idmapped: options.has('idmap'),
  }
  refuseIfOpen(bind)
  return bind
}

/** Refuses what users of the host can reach, as for `--rootfs`: setuid programs of the container would be root's. */
function refuseIfOpen({ text, source, isDirectory, readonly, idmapped }: Bind): void {
  if (readonly || !idmapped || !isReachable(isDirectory ? source : dirname(source))) return
  throw cannot(
    text,
    'every user of the host can reach it, and what the container makes there has the ids of the host, ' +
      'setuid programs of root too: put it into a directory of mode 0700, or add :ro',
  )
}

/** Opens the place of a bind in the tree below `root`, and makes it if it is missing. */
export function openTarget(root: Handle, { text, target, isDirectory }: Bind): Fd {
  const place = openOrMake(root, target, isDirectory)
  if (place !== undefined && fstatSync(place.raw).isDirectory() === isDirectory) return place
  place?.[Symbol.dispose]()
  const [is, gets] = isDirectory ? ['no directory', 'a directory'] : ['a directory', 'a file']
  throw cannot(text, `"${target}" is ${is} in the container, and would be ${gets}: name another path there`)
}

/** Returns undefined if a component, or the end of a path to a directory, is no directory. */
function openOrMake(root: Handle, target: string, isDirectory: boolean): Fd | undefined {
  try {
    return isDirectory ? inside(root, target) : insideFile(root, target)
  } catch (error) {
    if (isErrno(error, 'ENOTDIR')) return undefined
    throw error
  }
}

/**
 * Mounts what is bound. Without `idmap` owners are not mapped: files of the host's root belong to nobody in the
 * container.
 *
 * @param userns the container's user namespace, for idmapped mounts
 */
export function placeBind(root: Handle, bind: Bind, userns: Handle | undefined): void {
  using place = openTarget(root, bind)
  const set = bind.readonly ? MOUNT_ATTR_RDONLY : 0n
  try {
    graft(bind.source, place, { recursive: true, set, userns: bind.idmapped ? userns : undefined })
  } catch (error) {
    if (!bind.idmapped || !isErrno(error, 'EINVAL', 'EPERM')) throw error
    throw cannot(bind.text, 'its file system, or one that is mounted below it, cannot map ids: leave out idmap')
  }
}
