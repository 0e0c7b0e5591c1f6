// Images of file systems on loop devices: for tests of mounts.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BASE } from './host.ts'

/** How an image of a file system is made of a directory, and its size in MiB. */
const makers = {
  ext2: { size: 8, make: ['mkfs.ext2', '-q', '-d'] },
  ext4: { size: 16, make: ['mkfs.ext4', '-q', '-d'] },
  xfs: { size: 320, make: ['mkfs.xfs', '-q'] },
  btrfs: { size: 128, make: ['mkfs.btrfs', '-q', '--rootdir'] },
  squashfs: { size: 0, make: ['mksquashfs'] },
  erofs: { size: 0, make: ['mkfs.erofs', '--quiet'] },
} as const
export type ImageType = keyof typeof makers

/** Runs a program on the host. @returns what it said @throws {Error} if it failed */
export const must = (program: string, args: readonly string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 256 * 1024 * 1024 })

/** A node of a loop device of the host, in a directory, that belongs to `owner`. */
export function nodeFor(loop: string, directory: string, owner: number): string {
  const path = join(directory, loop.slice('/dev/'.length))
  if (existsSync(path)) return path
  execFileSync('mknod', ['-m', '600', path, 'b', '7', loop.replace(/\D/g, '')])
  chownSync(path, owner, owner)
  return path
}

/** Why a mount of that source cannot show other ids here. Linux has had that for squashfs since 6.2, for tmpfs since 6.3. */
export function cannotShift(type: string, source: string): string | undefined {
  const mount = ['--mount', 'mount', '-t', type, '-o', `ro,X-mount.idmap=b:0:${BASE}:65536`, source, '/mnt']
  return spawnSync('unshare', mount).status === 0 ? undefined : `this kernel cannot shift the ids of ${type}`
}

/**
 * Images of file systems on loop devices, in a directory of their own. Each holds `hello` of root, `theirs` of 1000:1000 and
 * two device nodes that everybody may open: `null` and `disk`, a loop device that no container has.
 */
export class Images implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'intercede-images-'))
  readonly #devices: string[] = []
  readonly #mounted: ChildProcess[] = []

  constructor() {
    const tree = join(this.directory, 'tree')
    mkdirSync(tree)
    writeFileSync(join(tree, 'hello'), 'hello\n')
    writeFileSync(join(tree, 'theirs'), 'theirs\n')
    must('chown', ['1000:1000', join(tree, 'theirs')])
    must('mknod', ['-m', '666', join(tree, 'null'), 'c', '1', '3'])
    must('mknod', ['-m', '666', join(tree, 'disk'), 'b', '7', '200'])
  }

  /** The path of a new image. */
  make(type: ImageType): string {
    const image = join(this.directory, `${type}-${this.#devices.length}`)
    const { size, make } = makers[type]
    const [program, ...options] = make
    const tree = join(this.directory, 'tree')
    if (size > 0) must('truncate', ['-s', `${size}M`, image])
    if (type === 'squashfs') must(program, [tree, image, '-quiet', '-no-progress'])
    else if (type === 'erofs') must(program, [...options, image, tree])
    else if (type === 'xfs') fillXfs(tree, image)
    else must(program, [...options, tree, image])
    return image
  }

  /** A loop device of an image. */
  attach(image: string): string {
    const device = must('losetup', ['--find', '--show', image]).trim()
    this.#devices.push(device)
    return device
  }

  device(type: ImageType): string {
    return this.attach(this.make(type))
  }

  /** Mounts a device as root of the host does, where nobody sees it. */
  async mount(device: string): Promise<void> {
    const script = `mount ${device} /mnt && echo up && read -r _`
    const child = spawn('unshare', ['--mount', 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#mounted.push(child)
    await new Promise((resolve) => child.stdout.once('data', resolve))
  }

  [Symbol.dispose](): void {
    for (const child of this.#mounted) child.kill('SIGKILL')
    for (const device of this.#devices) spawnSync('losetup', ['--detach', device])
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** mkfs.xfs takes no directory, only a list of what to make. */
function fillXfs(tree: string, image: string): void {
  const list = `${image}.proto`
  const lines = ['/', '0 0', 'd--755 0 0', `hello ---644 0 0 ${tree}/hello`, `theirs ---644 1000 1000 ${tree}/theirs`]
  writeFileSync(list, [...lines, 'null c--666 0 0 1 3', 'disk b--666 0 0 7 200', '$', ''].join('\n'))
  must('mkfs.xfs', ['-q', '-p', list, image])
}
