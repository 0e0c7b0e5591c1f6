import { join } from 'node:path'
import { expect, test } from 'vitest'
import { withoutCgroups } from '../../support/bpf-world.ts'
import { Host, until } from '../../support/host.ts'
import { Load, policy, sleep } from '../../support/restart-world.ts'
import { withReason } from '../../support/skipped.ts'
import { Strace } from '../../support/strace.ts'

const FREEZES = 20
/** Half of what the keeper takes for an engine that hangs. */
const STOPPED_MS = 5000

/** Runs the load while `disturb` does what it does: every call must return what it must. */
async function undisturbed(disturb: (host: Host, load: Load) => Promise<void>): Promise<void> {
  const host = await Host.start(policy)
  const load = new Load(host, 'load')
  try {
    await until(
      'calls are served',
      () => {
        host.drain()
        return host.records.length > 100
      },
      60,
    )
    const engine = host.enginePid
    await disturb(host, load)
    const said = await load.end()
    console.log(said)
    expect(said.failures).toEqual({})
    expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
    expect(host.enginePid).toBe(engine)
    expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
  } finally {
    await load.kill()
    host.close()
  }
}

const why = withoutCgroups()

test.skipIf(why)(
  withReason('a container that is frozen and thawed in the middle of calls goes on', why),
  { timeout: 180_000 },
  () =>
    undisturbed(async (_, load) => {
      let complete = 0
      // Once for longer than what of ours may be in its group is given to answer.
      for (const milliseconds of [5000, ...Array<number>(FREEZES).fill(50)]) {
        if (await load.freeze(milliseconds)) complete++
        await sleep(Math.random() * 100)
      }
      console.log(`${complete} of ${FREEZES + 1} freezes were complete`)
    }),
)

test('an engine that is stopped for five seconds goes on, and so do its containers', { timeout: 180_000 }, () =>
  undisturbed(async ({ enginePid }) => {
    process.kill(enginePid, 'SIGSTOP')
    await sleep(STOPPED_MS)
    process.kill(enginePid, 'SIGCONT')
    await sleep(500)
  }),
)

test('an answer that a stop interrupts in the kernel is given again', { timeout: 60_000 }, async () => {
  const host = await Host.start()
  const mknod = (name: string) => host.call(['mknod', join(host.directory, name), '020666', '1', '3'])
  try {
    expect(await mknod('before')).toMatchObject({ result: 'ok' })
    const strace = await Strace.attach(host.enginePid, ['-e', 'trace=ioctl', '-e', 'inject=ioctl:error=EINTR:when=2+2'])
    try {
      for (let call = 0; call < 10; call++) expect(await mknod(`at-${call}`)).toMatchObject({ result: 'ok' })
      expect(await host.call(['mknod', join(host.directory, 'mem'), '020666', '1', '1'])).toMatchObject({
        result: 'EPERM',
      })
    } finally {
      await strace.end()
    }
    expect(host.events.filter(({ type }) => type === 'fault')).toEqual([])
  } finally {
    host.close()
  }
})
