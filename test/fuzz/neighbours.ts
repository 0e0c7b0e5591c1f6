import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ID_COUNT } from '../../src/runtimes/flags.ts'
import { readRange } from '../../src/runtimes/launch/ids.ts'
import type { Ground } from './ground.ts'
import { MARK, MARKED } from './mark.ts'
import { Random } from './random.ts'

const LANES = 3
/** Whoever is stopped inside takes longer; whoever takes even longer is ended. */
const PATIENCE_MS = 10_000
const GROUP = `intercede-fuzz-${MARK}`

/** Runtimes want pure cgroup v2. What the host unmounts must not stay here, so that only what others keep is seen. */
const SURROUNDINGS = `[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup; exec "$@"`
const WRAP = ['--mount', '--propagation', 'slave', 'sh', '-c', SURROUNDINGS, 'sh']

/** A runtime lets a cgroup stand in which a program still runs that was started later. */
const TIDY = `cd /sys/fs/cgroup/${GROUP} || exit
echo 1 >cgroup.kill
for _ in $(seq 50); do find . -mindepth 1 -depth -type d -exec rmdir {} + && break; sleep 0.1; done
rmdir /sys/fs/cgroup/${GROUP}`

/** @returns whether it ended well */
const succeeds = (program: readonly string[]): Promise<boolean> =>
  new Promise((resolve) => {
    const limits = { timeout: PATIENCE_MS, killSignal: 'SIGKILL' } as const
    execFile('unshare', [...WRAP, ...program], limits, (error) => resolve(error === null))
  })

export interface NeighboursOptions {
  readonly ground: Ground
  readonly runtime: 'crun' | 'runc'
  readonly seed: number
  /** The first process of the hostile container, as the host sees it. */
  readonly init: string
}

/** Containers that share the namespaces of users and processes with the hostile one: they start, exec and end all the time. */
export class Neighbours {
  readonly #options: NeighboursOptions
  readonly #lanes: readonly Promise<void>[]
  #isOver = false
  readonly counts = { started: 0, executed: 0 }

  constructor(options: NeighboursOptions) {
    this.#options = options
    const trees = Object.values(options.ground.trees)
    this.#lanes = Array.from({ length: LANES }, (_, lane) => this.#live(lane, trees[lane % trees.length]!))
  }

  async #live(lane: number, tree: string): Promise<void> {
    const random = new Random(this.#options.seed + lane)
    const bundle = join(this.#options.ground.top, `bundle-${lane}`)
    mkdirSync(bundle)
    for (let turn = 0; !this.#isOver; turn++) {
      const id = `intercede-${MARK}-${lane}-${turn}`
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(this.#config(id, tree, 50 + random.below(250))))
      const lives = this.#runtime('run', '--bundle', bundle, id)
      await sleep(20 + random.below(100))
      for (let times = random.below(4); times > 0; times--)
        if (await this.#runtime('exec', id, '/bin/neighbour', `${1 + random.below(60)}`)) this.counts.executed++
      if (await lives) this.counts.started++
      else await this.#runtime('delete', '--force', id)
    }
  }

  #runtime(...args: readonly string[]): Promise<boolean> {
    return succeeds([this.#options.runtime, '--root', join(this.#options.ground.top, 'state'), ...args])
  }

  #config(id: string, tree: string, milliseconds: number): object {
    const { init, runtime } = this.#options
    const { uid, gid } = readRange()
    const mapping = (hostID: number): object[] => [{ containerID: 0, hostID, size: ID_COUNT }]
    // crun asks the namespace, runc wants to be told.
    const mappings = runtime === 'crun' ? {} : { uidMappings: mapping(uid), gidMappings: mapping(gid) }
    const shared = ['user', 'pid'].map((type) => ({ type, path: `/proc/${init}/ns/${type}` }))
    return {
      ociVersion: '1.0.2',
      process: {
        user: { uid: 0, gid: 0 },
        args: ['/bin/neighbour', `${milliseconds}`],
        env: ['PATH=/bin'],
        cwd: '/',
        capabilities: { bounding: [], effective: [], permitted: [] },
      },
      root: { path: tree },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        ...['/dev', '/mnt'].map((destination) => ({ destination, type: 'tmpfs', source: `${MARKED}tmpfs` })),
      ],
      linux: {
        ...mappings,
        cgroupsPath: `/${GROUP}/${id}`,
        namespaces: [...shared, ...['mount', 'ipc', 'uts'].map((type) => ({ type }))],
      },
    }
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#lanes)
    await succeeds(['sh', '-c', TIDY])
  }
}
