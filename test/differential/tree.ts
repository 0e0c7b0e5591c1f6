import { BASE } from '../support/host.ts'
import { aclValue } from './acl.ts'
import { chain, hex, type Walk } from './path.ts'
import type { Places } from './places.ts'
import {
  diskId,
  hostId,
  idmapped,
  type MountKind,
  mountOf,
  type Scene,
  type Target,
  tmpfsKinds,
  type Who,
} from './scene.ts'

/** What `batch-tree` does before the caller takes its place, after that, and to tell what became of the tree. */
export interface Script {
  readonly build: readonly string[]
  /** Owners, modes and lists come last: the caller stands where it may no longer go, as in reality. */
  readonly close: readonly string[]
  readonly snap: readonly string[]
}

const MS_RDONLY = 1
const MS_REMOUNT = 32
const ATTR_RDONLY = 1
const ATTR_NODEV = 4
/** A number that no case asks for, so that what was there is told from what was made. */
const THERE = '4 70'

const isTmpfs = (kind: MountKind | undefined): boolean => (tmpfsKinds as readonly (string | undefined)[]).includes(kind)

/** Attributes that a policy can list. */
export const LISTED = ['security.NTACL', 'trusted.glusterfs.volume-id']

/** What a link to a file leads to, behind its own name. */
const TARGET = '.target'

function target(kind: Target, path: string): string {
  const at = hex(path)
  switch (kind) {
    case 'file':
    case 'dir':
      return `${kind} ${at}`
    case 'fifo':
      return `node ${at} 010640 0 0`
    case 'sock':
      return `node ${at} 0140640 0 0`
    case 'chr':
      return `node ${at} 020640 ${THERE}`
    case 'blk':
      return `node ${at} 060640 ${THERE}`
    case 'linkDangling':
      return `link ${hex('nowhere')} ${at}`
    case 'linkToDir':
      return `link ${hex('.')} ${at}`
    case 'linkToFile':
      return `file ${hex(`${path}${TARGET}`)}\nlink ${hex(`linkToFile${TARGET}`)} ${at}`
  }
}

function bind(kind: MountKind, path: string): string {
  const attributes = kind === 'readOnly' ? ATTR_RDONLY : kind === 'noDevices' ? ATTR_NODEV : 0
  const count = kind === 'shift' ? 65_536 : kind === 'narrow' ? 1000 : 0
  return `bind ${hex(path)} ${hex(path)} ${attributes} 0 ${BASE} ${count}`
}

/** Writes the script of one scene; its methods add lines for one directory of the chain. */
class Writer {
  readonly build: string[] = []
  readonly close: string[] = []
  readonly #scene: Scene
  readonly #seen: string
  readonly #bare: string

  constructor(scene: Scene, seen: string, bare: string) {
    this.#scene = scene
    this.#seen = seen
    this.#bare = bare
  }

  /** Where root can still change `relative`: below a tmpfs that hides the rest only as everybody sees it. */
  at(relative: string): string {
    const mount = mountOf(this.#scene)
    const hidden = mount && isTmpfs(mount.kind) && this.#depth(relative) > mount.over
    return `${hidden ? this.#seen : this.#bare}${relative === '' ? '' : `/${relative}`}`
  }

  /** How many directories of the chain are above or at `relative`. */
  #depth(relative: string): number {
    const parts = relative === '' ? [] : relative.split('/')
    const other = parts.findIndex((part, index) => part !== chain[index])
    return other < 0 ? parts.length : other
  }

  directory(index: number): void {
    const relative = chain.slice(0, index + 1).join('/')
    const mount = mountOf(this.#scene)
    const mounted = mount?.over === index && isTmpfs(mount.kind) ? mount.kind : undefined
    const bare = mounted ? `${this.#bare}/${relative}` : this.at(relative)
    this.build.push(`dir ${hex(bare)}`)
    if (mounted) {
      const options = mounted === 'full' ? 'mode=755,nr_inodes=80' : 'mode=755'
      this.build.push(`mount tmpfs ${hex(`${this.#seen}/${relative}`)} 0 ${hex(options)}`)
    }
    this.#permissions(index, hex(this.at(relative)))
  }

  #permissions(index: number, path: string): void {
    const { user, group, mode, access, defaults, immutable } = this.#scene.directories[index]!
    const mount = mountOf(this.#scene)
    const idOf: (who: Who) => number = idmapped(this.#scene, index) ? diskId : hostId
    this.close.push(`own ${path} ${idOf(user)} ${idOf(group)}`, `mode ${path} ${mode.toString(8)}`)
    const acl = (name: string, value: Buffer): void => {
      this.close.push(`xattr ${path} ${hex(`system.posix_acl_${name}`)} ${hex(value)}`)
    }
    if (access) acl('access', aclValue(access, idOf))
    if (defaults) acl('default', aclValue(defaults, idOf))
    if (immutable && this.#scene.fileSystem === 'disk' && !isTmpfs(mount?.kind)) this.close.push(`immutable ${path}`)
  }

  /** What the chain's last directory holds and the way needs. */
  contents({ extras }: Walk, attributes: ObjectAttributes | undefined): void {
    const { last, directories } = this.#scene
    const end = chain.slice(0, directories.length).join('/')
    if (last.kind === 'there' || last.kind === 'thereSlash') {
      const path = this.at(`${end}/${last.target}`)
      this.build.push(target(last.target, path))
      if (attributes) this.#object(last.target, path, attributes)
    }
    for (const { path, link } of extras) {
      const at = hex(this.at(path.slice(this.#seen.length + 1)))
      this.build.push(link === undefined ? `file ${at}` : `link ${hex(link)} ${at}`)
    }
  }

  #object(kind: Target, name: string, attributes: ObjectAttributes): void {
    const { user, group, mode, flag, opaque, listed } = attributes
    const path = hex(name)
    if (kind === 'linkToFile') this.#object('file', `${name}${TARGET}`, attributes)
    const idOf = idmapped(this.#scene, this.#scene.directories.length - 1) ? diskId : hostId
    this.close.push(`own ${path} ${idOf(user)} ${idOf(group)}`)
    if (!kind.startsWith('link')) this.close.push(`mode ${path} ${mode.toString(8)}`)
    if (opaque !== undefined) this.close.push(`xattr ${path} ${hex('trusted.overlay.opaque')} ${hex(opaque)}`)
    for (const name of listed === undefined ? [] : LISTED) this.close.push(`xattr ${path} ${hex(name)} ${hex(listed!)}`)
    const onDisk = this.#scene.fileSystem === 'disk' && !isTmpfs(mountOf(this.#scene)?.kind)
    if (flag && onDisk && (kind === 'file' || kind === 'dir')) this.close.push(`${flag} ${path}`)
  }

  mounts(places: Places): void {
    const mount = mountOf(this.#scene)
    const over = `${this.#seen}/${chain.slice(0, (mount?.over ?? 0) + 1).join('/')}`
    if (this.#scene.fileSystem === 'overlay') this.build.push(...this.close.splice(0), overlay(places))
    if (mount && !isTmpfs(mount.kind)) this.build.push(bind(mount.kind, over))
    if (mount?.kind === 'tmpfsReadOnly') this.close.push(`mount tmpfs ${hex(over)} ${MS_REMOUNT | MS_RDONLY} -`)
    if (mount?.kind === 'full') this.close.push(`fill ${hex(over)}`)
  }
}

function overlay({ disk, overlay: at }: Places): string {
  return `mount overlay ${hex(at)} 0 ${hex(`lowerdir=${disk}/low,upperdir=${disk}/up,workdir=${disk}/work`)}`
}

/** Of what is at the end of a path, for calls that change it. */
export interface ObjectAttributes {
  readonly user: Who
  readonly group: Who
  readonly mode: number
  readonly flag?: 'immutable' | 'append' | undefined
  /** The value of its trusted.overlay.opaque, if it has one from the start. */
  readonly opaque?: string | undefined
  /** The value of those of LISTED. */
  readonly listed?: string | undefined
}

export function scriptOf(scene: Scene, walk: Walk, places: Places, attributes?: ObjectAttributes): Script {
  const seen = places.seen(scene)
  const bare = places.bare(scene)
  const writer = new Writer(scene, seen, bare)
  if (scene.fileSystem === 'overlay')
    writer.build.push(...['low', 'up', 'work'].map((name) => `dir ${hex(`${places.disk}/${name}`)}`))
  writer.build.push(`dir ${hex(bare)}`)
  scene.directories.forEach((_, index) => {
    writer.directory(index)
  })
  writer.contents(walk, attributes)
  writer.mounts(places)
  return {
    build: writer.build,
    close: writer.close,
    snap: mountOf(scene) ? [`snap ${hex(seen)}`, `snap ${hex(bare)}`] : [`snap ${hex(seen)}`],
  }
}
