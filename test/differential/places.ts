import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Scene } from './scene.ts'

/** The same paths on every side, for each sees its own mounts there. */
export class Places {
  readonly top = mkdtempSync(join(tmpdir(), 'intercede-differential-'))
  readonly memory = join(this.top, 'memory')
  readonly disk = join(this.top, 'disk')
  readonly overlay = join(this.top, 'overlay')
  readonly raw = join(this.top, 'raw')

  constructor() {
    chmodSync(this.top, 0o755)
    for (const path of [this.memory, this.disk, this.overlay, join(this.raw, 'memory'), join(this.raw, 'disk')])
      mkdirSync(path, { recursive: true })
  }

  source(side: string): string {
    const path = join(this.top, `source-${side}`)
    mkdirSync(path)
    return path
  }

  /** The root of a scene's tree as its caller sees it. */
  seen({ fileSystem }: Scene): string {
    return join(this[fileSystem], 'r')
  }

  /** The same without what is mounted over it, open to root alone; for an overlay its lower layer. */
  bare({ fileSystem }: Scene): string {
    return fileSystem === 'overlay' ? join(this.disk, 'low', 'r') : join(this.raw, fileSystem, 'r')
  }

  remove(): void {
    rmSync(this.top, { recursive: true, force: true })
  }
}
