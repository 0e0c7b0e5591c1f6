import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Maker } from '../../support/daemon.ts'
import { Host, until } from '../../support/host.ts'
import { PatchedBuild } from '../../support/patched-build.ts'

const DECIDES = 'decide({ dirfd, path, mode, dev }, caller, policy) {'
const SCREENS = 'screen(args, policy) {'

describe.each([
  { part: 'decide', from: DECIDES, to: `${DECIDES} if (mode & 0o001) throw new TypeError('of a test');` },
  { part: 'screen', from: SCREENS, to: `${SCREENS} if (modeOf(args) & 0o001) throw new TypeError('of a test');` },
])('a handler that throws in $part', ({ from, to }) => {
  test('answers its call with EIO, is recorded and said, and takes nothing else with it', async () => {
    const build = new PatchedBuild('syscalls/mknod.js', from, to)
    const host = await Host.start(undefined, {}, build.url)
    const engine = host.enginePid
    const mknod = (name: string, mode: string) => host.call(['mknod', join(host.directory, name), mode, '1', '3'])
    try {
      for (const name of ['a', 'b']) {
        const { result, records } = await mknod(name, '020777')
        expect(result).toBe('EIO')
        expect(records).toMatchObject([{ verdict: 'errno', reason: 'fault' }])
      }
      expect(await mknod('c', '020666')).toMatchObject({ result: 'ok' })
      const said = host.events.filter(({ type }) => type === 'fault')
      expect(said.length).toBeLessThanOrEqual(2)
      expect(said[0]).toEqual({
        type: 'fault',
        message: expect.stringMatching(/^Cannot serve mknod(at)?: TypeError: of a test$/),
      })
      expect(host.enginePid).toBe(engine)
    } finally {
      host.close()
      await build.remove(engine)
    }
  })
})

test('engines that crash all the time: it waits, and answers as the kernel does without us, until one serves', async () => {
  const host = await Host.start(undefined, { restartPause: 3000 })
  host.mayLoseEngine = true
  const maker = new Maker(host)
  const isPaused = (): boolean => host.events.some((event) => event.type === 'engineEnded' && event.pause > 0)
  try {
    expect(await maker.make()).toBe('ok')
    while (!isPaused()) {
      const pid = host.maybeEnginePid
      if (pid !== undefined) process.kill(pid, 'SIGABRT')
      await until('it is replaced, or given up', () => host.maybeEnginePid !== pid || isPaused())
    }
    expect(await maker.make()).toBe('Operation not permitted')
    // A container that comes meanwhile.
    expect(await host.call(['mknod', join(host.directory, 'new'), '020666', '1', '3'])).toMatchObject({
      result: 'EPERM',
    })
    expect(host.maybeEnginePid).toBe(undefined)
    await until('an engine serves', () => host.events.some(({ type }) => type === 'engineStarted'), 30)
    expect(await maker.make()).toBe('ok')
  } finally {
    maker.end()
    host.close()
  }
})
