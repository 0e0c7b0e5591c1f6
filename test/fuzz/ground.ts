import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readRange } from '../../src/runtimes/launch/ids.ts'
import { fixture } from '../support/fixtures.ts'
import { Images } from '../support/images.ts'
import type { Scene } from './observer.ts'

const { uid, gid } = readRange()

function make(path: string, mode: number): void {
  mkdirSync(path, { recursive: true })
  give(path, mode)
}

function give(path: string, mode: number): void {
  chownSync(path, uid, gid)
  chmodSync(path, mode)
}

/** What the container sees of the host, and what lies beside it. */
export class Ground implements Disposable {
  readonly top = mkdtempSync(join(tmpdir(), 'intercede-fuzz-'))
  readonly inside = join(this.top, 'in')
  readonly outside = join(this.top, 'out')
  readonly programs = join(this.top, 'programs')
  /** Where the host mounts and unmounts. */
  readonly mounts = join(this.top, 'mounts')
  /** Root directories of containers beside. The kernel lets nobody inside look at a task that runs what he may not read. */
  readonly trees = { open: join(this.top, 'open'), closed: join(this.top, 'closed') } as const
  readonly images = new Images()
  readonly ext4: string
  readonly squashfs: string
  readonly ext2: string
  /** No container has it. */
  readonly disk: string

  constructor() {
    for (const path of [this.inside, this.programs, this.mounts]) mkdirSync(path)
    chmodSync(this.top, 0o755)
    chownSync(this.inside, uid, gid)
    // Whoever gets there could do what he likes: but no path of the container leads there.
    for (const name of ['', 'a', 'b', 'a/b']) make(join(this.outside, name), 0o777)
    for (const name of ['f0', 'a/f0', 'a/f2', 'a/b/f1']) this.#expose(join(this.outside, name))
    symlinkSync('/', join(this.outside, 'l'))
    copyFileSync(fixture('fuzz-calls', ['-static']), join(this.programs, 'fuzz-calls'))
    this.#plant(this.trees.open, 0o755)
    this.#plant(this.trees.closed, 0o711)
    this.ext4 = this.images.device('ext4')
    this.squashfs = this.images.device('squashfs')
    this.ext2 = this.images.device('ext2')
    this.disk = this.images.device('ext4')
  }

  /** Those that a mount inside may be of. */
  get devices(): readonly string[] {
    return [this.ext4, this.squashfs, this.ext2]
  }

  #expose(path: string): void {
    writeFileSync(path, path)
    give(path, 0o666)
  }

  #plant(tree: string, program: number): void {
    for (const name of ['', 'bin', 'dev', 'proc', 'mnt']) make(join(tree, name), 0o700)
    make(join(tree, 'tmp'), 0o777)
    for (const name of ['f0', 'tmp/f0']) this.#expose(join(tree, name))
    const path = join(tree, 'bin/neighbour')
    copyFileSync(fixture('fuzz-neighbour', ['-static']), path)
    chmodSync(path, program)
  }

  /** What an observer is told of it. */
  get scene(): Pick<Scene, 'ours' | 'outside' | 'mounts' | 'own' | 'others'> {
    const { top: ours, outside, mounts, inside, trees } = this
    return { ours, outside, mounts, own: [inside, trees.open], others: [trees.closed] }
  }

  [Symbol.dispose](): void {
    this.images[Symbol.dispose]()
    rmSync(this.top, { recursive: true, force: true })
  }
}
