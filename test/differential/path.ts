import { capSets, ids, type Last, type Scene } from './scene.ts'

/** A path that a call is given, and what its caller is told to stand in and hold before that. */
export interface Walk {
  readonly path: Buffer
  readonly dirfd: number
  readonly root?: string
  readonly cwd: string
  readonly fd?: string
  /** What the way needs in the tree: where, and what it leads to, or undefined for a file. */
  readonly extras: readonly { readonly path: string; readonly link?: string }[]
}

const AT_FDCWD = -100
const HELD = 9
/** Names of the directories of the chain, in order. */
export const chain = ['a', 'b', 'c', 'd'] as const

const slashed = (parts: readonly string[]): string => parts.map((part) => `${part}/`).join('')

function lastBytes(last: Last): Buffer {
  switch (last.kind) {
    case 'name':
      return Buffer.from(last.bytes)
    case 'there':
      return Buffer.from(last.target)
    case 'thereSlash':
      return Buffer.from(`${last.target}/`)
    case 'slash':
      return Buffer.from('new/')
    case 'slashes':
      return Buffer.from('new//')
    case 'dot':
      return Buffer.from('.')
    case 'dotDot':
      return Buffer.from('..')
    case 'nothing':
      return Buffer.alloc(0)
    case 'name255':
      return Buffer.alloc(255, 'n')
    case 'name256':
      return Buffer.alloc(256, 'n')
  }
}

/** How a process names `base`, and where it stands for that. */
function from(scene: Scene, tree: string, base: string): Omit<Walk, 'path' | 'extras'> & { readonly prefix: string } {
  const plain = { dirfd: AT_FDCWD, cwd: base }
  const away = { dirfd: AT_FDCWD, cwd: '/', fd: base }
  switch (scene.start) {
    case 'relative':
      return { ...plain, prefix: '' }
    case 'absolute':
      return { ...plain, cwd: '/', prefix: `${base}/` }
    case 'dirfd':
      return { ...away, dirfd: HELD, prefix: '' }
    case 'absoluteDespiteDirfd':
      return { ...plain, cwd: '/', dirfd: 77, prefix: `${base}/` }
    case 'badDirfd':
      return { ...plain, dirfd: 77, prefix: '' }
    case 'fileDirfd':
      return { ...plain, dirfd: HELD, fd: `${tree}/file`, prefix: '' }
    case 'chroot':
      return { ...plain, root: base, prefix: '/' }
    case 'chrootRelative':
      return { ...plain, root: base, prefix: '' }
    case 'chrootFromOutside':
      return { ...plain, root: base, cwd: tree, prefix: slashed(chain.slice(0, depthAt(scene))) }
    case 'chrootUp':
      return { ...plain, root: base, prefix: '/../..//../' }
    case 'procSelfCwd':
      return { ...plain, prefix: '/proc/self/cwd/' }
    case 'procSelfRoot':
      return { ...plain, cwd: '/', prefix: `/proc/self/root${base}/` }
    case 'threadSelfCwd':
      return { ...plain, prefix: '/proc/thread-self/cwd/' }
    case 'threadSelfRoot':
      return { ...plain, cwd: '/', prefix: `/proc/thread-self/root${base}/` }
    case 'procTaskCwd':
      return { ...plain, prefix: '/proc/self/task/{pid}/cwd/' }
    case 'procPidCwd':
      return { ...plain, prefix: '/proc/{pid}/cwd/' }
    case 'procPidRoot':
      return { ...plain, cwd: '/', prefix: `/proc/{pid}/root${base}/` }
    case 'procPidFd':
      return { ...away, prefix: '/proc/{pid}/fd/9/' }
    case 'devFd':
      return { ...away, prefix: '/dev/fd/9/' }
    case 'procSelfFd':
      return { ...away, prefix: '/proc/self/fd/9/' }
    case 'threadSelfFd':
      return { ...away, prefix: '/proc/thread-self/fd/9/' }
    case 'procSelfFdOfFile':
      return { ...away, fd: `${tree}/file`, prefix: '/proc/self/fd/9/' }
    case 'procDirfd':
      return { ...plain, dirfd: HELD, fd: '/proc/self', prefix: 'cwd/' }
    case 'cwdInProc':
      return { ...plain, cwd: '/proc/self', prefix: `root${base}/` }
    case 'procLink':
      return { ...away, prefix: '/proc/self/fd/9' }
    case 'inProc':
      return { ...away, prefix: '/proc/self/' }
    case 'inSys':
      return { ...away, prefix: '/sys/' }
  }
}

const depthAt = ({ at, directories }: Scene): number => at % (directories.length + 1)

/** How a path goes on from `base`, and the links and files that it needs there. */
function along(scene: Scene, base: string): Pick<Walk, 'extras'> & { readonly way: string } {
  const rest = chain.slice(depthAt(scene), scene.directories.length)
  const below = rest.join('/') || '.'
  const inChroot = scene.start.startsWith('chroot')
  const absolute = inChroot ? `/${below}` : `${base}/${below}`
  const link = `${base}/l`
  switch (scene.way) {
    case 'plain':
      return { way: slashed(rest), extras: [] }
    case 'dots':
      return { way: `./${rest.map((part) => `${part}/././`).join('')}`, extras: [] }
    case 'dotDots':
      return { way: rest.map((part) => `${part}/../${part}/`).join('') || './', extras: [] }
    case 'slashes':
      return { way: rest.map((part) => `${part}///`).join(''), extras: [] }
    case 'linkRelative':
      return { way: 'l/', extras: [{ path: link, link: below }] }
    case 'linkAbsolute':
      return { way: 'l/', extras: [{ path: link, link: absolute }] }
    case 'linkInside': {
      const [first, ...more] = rest
      if (first === undefined) return { way: 'l/', extras: [{ path: link, link: '../././.' }] }
      return { way: `${first}/l/`, extras: [{ path: `${base}/${first}/l`, link: `../${first}/${more.join('/')}` }] }
    }
    case 'linkChain':
      return {
        way: 'l0/',
        extras: Array.from({ length: scene.links }, (_, index) => ({
          path: `${base}/l${index}`,
          link: index === scene.links - 1 ? below : `l${index + 1}`,
        })),
      }
    case 'linkLoop':
      return { way: 'l/', extras: [{ path: link, link: 'l' }] }
    case 'linkDangling':
      return { way: 'l/', extras: [{ path: link, link: 'nowhere' }] }
    case 'linkToFile':
      return { way: 'l/', extras: [{ path: link, link: 'plain' }, { path: `${base}/plain` }] }
    case 'linkProcCwd':
      return { way: 'l/', extras: [{ path: link, link: `/proc/self/cwd/${below}` }] }
    case 'linkProcRoot':
      return { way: 'l/', extras: [{ path: link, link: `/proc/self/root${base}/${below}` }] }
    case 'missing':
      return { way: `missing/${slashed(rest)}`, extras: [] }
    case 'file':
      return { way: 'plain/', extras: [{ path: `${base}/plain` }] }
    case 'longComponent':
      return { way: `${'c'.repeat(256)}/`, extras: [] }
  }
}

const wholePaths: readonly string[] = ['procLink', 'inProc', 'inSys']

/** Slashes and dots that change nothing but the length. */
function padding(missing: number): string {
  return missing <= 0 ? '' : './'.repeat(missing >> 1) + (missing % 2 ? '/' : '')
}

/** @param tree the root of the scene's tree as the caller sees it */
export function walkOf(scene: Scene, tree: string): Walk {
  const base = [tree, ...chain.slice(0, depthAt(scene))].join('/')
  const { prefix, ...setting } = from(scene, tree, base)
  const whole = wholePaths.includes(scene.start)
  const { way, extras } = whole ? { way: '', extras: [] } : along(scene, base)
  const last = scene.start === 'procLink' ? Buffer.alloc(0) : lastBytes(scene.last)
  const head = `${prefix}${way}`
  const filler = scene.length === 0 ? '' : padding(scene.length - last.length - Buffer.byteLength(head))
  const heldFile = setting.fd === `${tree}/file` ? [{ path: `${tree}/file` }] : []
  return { ...setting, path: Buffer.concat([Buffer.from(head + filler), last]), extras: [...extras, ...heldFile] }
}

export const hex = (bytes: Uint8Array | string): string => Buffer.from(bytes as string).toString('hex') || '-'

/** Path as an argument for `batch-calls`. */
export function pathArgument({ pointer }: Scene, path: Buffer): string {
  if (pointer === 'null' || pointer === 'unmapped') return `${pointer}:`
  const kind = pointer === 'good' ? 'b' : pointer
  return `${kind}:${hex(Buffer.concat([path, Buffer.alloc(1)]))}`
}

/** The words of `batch-calls` that say who calls and from where. */
export function callerWords({ caller }: Scene, { root, cwd, fd }: Walk, caps = capSets[caller.caps]): string {
  const words = [
    `uid=${ids[caller.uid]}`,
    `gid=${ids[caller.gid]}`,
    `groups=${caller.groups.map((group) => ids[group]).join(',') || '-'}`,
    `caps=${caps.toString(16)}`,
    `umask=${caller.umask.toString(8)}`,
    `cwd=${hex(cwd)}`,
  ]
  if (root !== undefined) words.push(`root=${hex(root)}`)
  if (fd !== undefined) words.push(`fd=${HELD}:${hex(fd)}`)
  return words.join(' ')
}
