import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { MemoryGroup, unlimitable } from '../../support/groups.ts'
import { execute, until } from '../../support/host.ts'
import { Hostile, withoutFuse } from '../../support/hostile.ts'
import { untraced, withReason } from '../../support/skipped.ts'
import { stateOf } from '../../support/stat.ts'

/** The engine that hangs is found out by its missing beat, after ten looks of one second. */
const SILENCE_S = 30
/** Others may work on the machine too. */
const START_S = 60

interface Way {
  readonly way: string
  readonly skip?: string | undefined
  /** What calls may say besides ok before it ends. */
  readonly meanwhile?: readonly string[]
  /** @returns what is to be done at the end */
  end(engine: number): Promise<Disposable | undefined>
}

const by = (signal: NodeJS.Signals): Way => ({
  way: signal,
  async end(engine) {
    process.kill(engine, signal)
    return undefined
  },
})

const memory = unlimitable()

const WAYS: readonly Way[] = [
  by('SIGSEGV'),
  by('SIGABRT'),
  by('SIGSTOP'),
  {
    way: 'the OOM killer',
    skip: memory,
    async end(engine) {
      const group = new MemoryGroup(64 * 1024)
      writeFileSync(`${group.innermost}/cgroup.procs`, String(engine))
      return group
    },
  },
  {
    way: 'no memory left for V8',
    // It cannot start a process any more that asks for the device rules.
    meanwhile: ['Operation not permitted'],
    async end(engine) {
      await execute('prlimit', ['--pid', String(engine), '--as=1048576'])
      return undefined
    },
  },
]

for (const { way, skip, meanwhile = [], end } of WAYS) {
  test
    .skipIf(skip)
    .concurrent(
      withReason(`an engine that is ended by ${way} is replaced by the same keeper, and its containers go on`, skip),
      { timeout: 180_000 },
      async () => {
        const daemon = await Daemon.start()
        const maker = new Maker(daemon)
        const makers = [maker, ...Array.from({ length: 7 }, () => new Maker(daemon))]
        try {
          for (const one of makers) expect(await one.make()).toBe('ok')
          const { pid, engine } = daemon
          using _ = await end(engine)
          const said = new Set<string>()
          await until(
            'another engine serves',
            async () => {
              for (let calls = 0; calls < 20; calls++)
                for (const one of await Promise.all(makers.map((maker) => maker.make()))) said.add(one)
              return daemon.engine !== engine
            },
            SILENCE_S,
          )
          expect(['ok', ...meanwhile]).toEqual(expect.arrayContaining([...said]))
          await until('the old one is gone', () => stateOf(engine) === '')
          for (const one of makers) expect(await one.make()).toBe('ok')
          expect(daemon.pid).toBe(pid)
          console.log(
            daemon.log.filter(({ message }) => /^the engine /.test(String(message))).map(({ message }) => message),
          )
        } finally {
          for (const one of makers) one.end()
          await daemon.close()
        }
      },
    )
}

const cannotHang = withoutFuse() ?? untraced
/** Its process is there, as a zombie, until the threads come back: nothing else tells that it has ended. */
test
  .skipIf(cannotHang)
  .concurrent(
    withReason('an engine that is killed while a thread of it hangs is replaced at once', cannotHang),
    { timeout: 180_000 },
    async () => {
      const daemon = await Daemon.start('default: { security.syscalls.intercept.mknod: true }\n')
      const [maker, hostile] = [new Maker(daemon), new Hostile(daemon.directory)]
      try {
        const calls = [fixture('stuck-calls'), '--how', 'silent', join(hostile.merged, 'dir/n')]
        await hostile.start(daemon.socket, ['--overlay', hostile.overlay], calls)
        const { engine } = daemon
        await until('a thread hangs', () => hostile.holds(engine), START_S)
        process.kill(engine, 'SIGKILL')
        expect(await maker.make()).toBe('ok')
        await until('another engine serves', () => daemon.engine !== engine, START_S)
        expect(stateOf(engine)).toBe('Z')
      } finally {
        maker.end()
        await hostile.end()
        await daemon.close()
      }
    },
  )
