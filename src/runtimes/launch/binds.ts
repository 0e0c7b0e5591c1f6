import { fstatSync } from 'node:fs'
import { resolve } from 'node:path'
import { MOUNT_ATTR_RDONLY } from '../../abi/mount.ts'
import { isErrno, orUndefined } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { whyNotOnlyRoot } from './closed.ts'
import { type HostTree, openHostTree } from './host-tree.ts'
import { hiddenPoints } from './oci-config.ts'
import { inside, insideFile } from './tree.ts'

export interface BindRequest {
  /** As it was given, for messages. */
  readonly text: string
  readonly source: string
  readonly target: string
  readonly readonly: boolean
  /** Whether an owner on the disk is the same number in the container. */
  readonly idmapped: boolean
}

/** A directory or file of the host that the container sees. */
export interface Bind extends BindRequest {
  readonly tree: HostTree
  readonly isDirectory: boolean
}

const FORM = 'the form is PATH[:PATH][:ro][:idmap]'
const OPTIONS: readonly string[] = ['ro', 'idmap']

const cannot = (text: string, why: string): Error => new Error(`Cannot use --bind "${text}": ${why}`)

const areOptions = (part: string): boolean => part.split(',').every((word) => OPTIONS.includes(word))

/**
 * Splits the text of `--bind`: options come last, each after a colon or a comma.
 *
 * @throws {Error} if it has more parts, or the second path is not absolute
 */
function split(text: string): { readonly paths: readonly string[]; readonly options: readonly string[] } {
  const [given = '', ...rest] = text.split(':')
  const options: string[] = []
  while (rest.length > 0 && areOptions(rest.at(-1)!)) options.push(...rest.pop()!.split(','))
  const [target, more] = rest
  if (given === '' || more !== undefined || new Set(options).size < options.length)
    throw cannot(text, `it means nothing; ${FORM}`)
  if (target !== undefined && !target.startsWith('/')) {
    throw cannot(text, `"${target}" is neither an absolute path in the container nor an option; ${FORM}`)
  }
  return { paths: target === undefined ? [given] : [given, target], options }
}

/**
 * Parses `--bind PATH[:PATH][:ro][:idmap]`.
 *
 * @param systemd whether the command is systemd
 * @throws {Error} if the text means nothing
 */
export function parseBind(text: string, systemd = false): BindRequest {
  const { paths, options } = split(text)
  const source = resolve(paths[0]!)
  const target = paths[1] ?? source
  const over = hiddenPoints(systemd).find(
    (point) => resolve(target) === point || resolve(target).startsWith(`${point}/`),
  )
  if (over !== undefined) {
    throw cannot(
      text,
      `the container mounts its own "${over}" over it; name another path, such as --bind "${source}:/mnt"`,
    )
  }
  return { text, source, target, readonly: options.includes('ro'), idmapped: options.includes('idmap') }
}

/**
 * Opens what is bound.
 *
 * @throws {Error} if it cannot be shown, or others than root can reach what the container would make there
 */
export function openBind(request: BindRequest): Bind {
  const { text, source, readonly, idmapped } = request
  const tree = openHostTree(source, true)
  if (tree === undefined) throw cannot(text, `there is no "${source}" on the host; make it first`)
  const found = tree.stat()
  if (found.isCharacterDevice() || found.isBlockDevice()) {
    throw cannot(text, `"${source}" is a device; use --device "${source}"`)
  }
  const why = readonly || !idmapped ? undefined : whyNotOnlyRoot(tree)
  if (why !== undefined) throw cannot(text, `${why}, or add :ro`)
  return { ...request, tree, isDirectory: found.isDirectory() }
}

/** Opens the place of a bind in the tree below `root`, and makes it if it is missing. */
export function openTarget(root: Handle, { text, target, isDirectory }: Bind): Fd {
  const place = openOrMake(root, target, isDirectory)
  if (place !== undefined && fstatSync(place.raw).isDirectory() === isDirectory) return place
  place?.[Symbol.dispose]()
  const [is, gets] = isDirectory ? ['no directory', 'a directory'] : ['a directory', 'a file']
  throw cannot(text, `"${target}" is ${is} in the container, and would be ${gets}; name another path there`)
}

/** Returns undefined if a component, or the end of a path to a directory, is no directory. */
const openOrMake = (root: Handle, target: string, isDirectory: boolean): Fd | undefined =>
  orUndefined(['ENOTDIR'], () => (isDirectory ? inside(root, target) : insideFile(root, target)))

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
    bind.tree.mountOn(place, { set, userns: bind.idmapped ? userns : undefined })
  } catch (error) {
    if (!bind.idmapped || !isErrno(error, 'EINVAL', 'EPERM')) throw error
    throw cannot(bind.text, 'its file system, or one that is mounted below it, cannot map ids; leave out idmap')
  }
}
