// A FUSE program and an image file for the containers of a `Machine`: for tests of mount.fuse.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fixture, missing } from './fixtures.ts'
import { execute } from './host.ts'
import { must } from './images.ts'
import type { Machine } from './machine.ts'

/** Mounts the image file that `installFuse` leaves, and says what it sees: `MOUNTED`. */
export const MOUNT = 'mount2 ext4 /ext4.img /mnt; cat /mnt/hello; busybox grep -o fuse.ext4 /proc/self/mounts'
export const MOUNTED = ['hello', 'fuse.ext4']
export const FUSE_KEYS = ['-c', 'mount', '-c', 'mount.fuse=ext4=fuse2fs'] as const

export const lacksFuse = (): string | undefined => missing('fuse2fs', 'mkfs.ext4', 'gcc')

/** Puts fuse2fs into the root file system of the machine's containers, and an image of ext4 that it can mount. */
export async function installFuse({ directory, rootfs }: Machine): Promise<void> {
  // libfuse has `mount` note what it has mounted: that of busybox does not know how.
  for (const program of ['fuse2fs', 'mount']) await install(rootfs, program)
  copyFileSync(fixture('mount-call', ['-static']), join(rootfs, 'bin/mount2'))
  const tree = join(directory, 'tree')
  for (const folder of [tree, join(rootfs, 'mnt')]) mkdirSync(folder)
  writeFileSync(join(tree, 'hello'), 'hello\n')
  must('mkfs.ext4', ['-q', '-d', tree, join(rootfs, 'ext4.img'), '8M'])
}

/** Copies a program of this machine, with the libraries that it needs. */
async function install(rootfs: string, program: string): Promise<void> {
  const { stdout: path } = await execute('sh', ['-c', `command -v ${program}`])
  const { stdout: libraries } = await execute('ldd', [path.trim()])
  put(rootfs, path.trim(), `bin/${program}`)
  for (const [library] of libraries.matchAll(/\/\S+/g)) put(rootfs, library, library)
}

function put(rootfs: string, from: string, to: string): void {
  const file = join(rootfs, to)
  mkdirSync(dirname(file), { recursive: true })
  copyFileSync(from, file)
}
