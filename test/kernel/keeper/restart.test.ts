import { join } from 'node:path'
import { expect, test } from 'vitest'
import { NOTIF } from '../../../src/abi/seccomp.ts'
import { ownSyscalls } from '../../../src/abi/syscalls.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { withoutCgroups } from '../../support/bpf-world.ts'
import { Host, until } from '../../support/host.ts'
import { ENDS_ONCE, FAILS_ONCE, PatchedBuild } from '../../support/patched-build.ts'
import { cannotMount, Killer, Load, policy, STATES, sleep } from '../../support/restart-world.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'

/** More on demand: npm run restart. */
const KILLS = Number(process.env.INTERCEDE_KILLS ?? 20)
/** With so many kills each state is met often enough to say that it was tested. */
const MANY = 400
const OFTEN = 20
const LOSE_WITHIN = 40

const registered = (host: Host): Promise<void> =>
  until('the container is known', () => host.events.some(({ type }) => type === 'registered'))

/** @param build in which one thing is wrong */
async function underLoad(
  policy: Policy,
  build: PatchedBuild | undefined,
  attempt: (host: Host, killer: Killer, load: Load) => Promise<void>,
): Promise<void> {
  const host = await Host.start(policy, {}, build?.url)
  host.mayLoseEngine = true
  const load = new Load(host, 'load')
  try {
    await registered(host)
    await attempt(host, new Killer(host), load)
  } finally {
    await load.kill()
    const engine = host.maybeEnginePid
    host.close()
    await build?.remove(engine)
  }
}

test(
  `${KILLS} times SIGKILL under load: every call returns what it must, and is done once`,
  () =>
    underLoad(policy, undefined, async (host, killer, load) => {
      for (let kill = 0; kill < KILLS; kill++) {
        // Now and then the engine has not even started.
        if (kill % 7 !== 0) await killer.untilServed()
        await sleep(Math.random() * 100)
        await killer.kill(STATES[kill % STATES.length]!)
        if (killer.kills % 50 === 0) console.log(`${killer.kills} kills`, killer.met)
      }
      const said = await load.end()
      console.log(`${killer.kills} kills, calls left in the states`, killer.met, said)
      expect(said.failures).toEqual({})
      expect(said.busy).toBeLessThanOrEqual(1 + KILLS / 50)
      expect(said.acts).toBeGreaterThan(said.calls / 3)
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      if (KILLS >= MANY) for (const state of STATES) expect(killer.met[state], state).toBeGreaterThanOrEqual(OFTEN)
      expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
      // The container is still served.
      const { result } = await host.call(['mknod', join(host.directory, 'after'), '020666', '1', '3'])
      expect(result).toBe('ok')
    }),
  SLOWNESS * (20_000 + 6000 * KILLS),
)

const RECEIVES = 'notifRecv(listenerFd, this.#slots.notification(slot))'
/** Receives into memory of its own, and copies that into the slot a little later. */
const LATER = '!((end) => { while (performance.now() < end); })(performance.now() + 5)'
const COPIES = `((own, slot) => notifRecv(listenerFd, own) && ${LATER} && !slot.set(own))(new Uint8Array(80), this.#slots.notification(slot))`

test('control: an engine that copies what it has received into the slot loses a call', { timeout: 120_000 }, () => {
  // Mounts would only start programs of a build that is removed.
  const { mount: _, ...quick } = policy
  return underLoad(quick, new PatchedBuild('engine/thread/thread.js', RECEIVES, COPIES), async (host, killer) => {
    const lost = (): boolean =>
      host.events.some(({ type, ...said }) => type === 'fault' && /: lost, and left/.test(JSON.stringify(said)))
    while (!lost() && killer.kills < LOSE_WITHIN) {
      await killer.untilServed()
      await sleep(Math.random() * 50)
      await killer.kill('waiting')
    }
    await killer.untilServed()
    console.log(`a call was lost at kill ${killer.kills}`, killer.met)
    expect(lost()).toBe(true)
  })
})

test.each([
  ['as it takes over a listener', 'engine/tables/inherited-calls.js', 'const { view } = slots;\n    const own'],
  ['with a call that was left', 'engine/serve/server.js', 'const { slot, listenerFd, left, isPoison } = call;'],
])(
  'an engine that fails %s is replaced by one that does not: every call returns what it must',
  { timeout: 60_000 },
  (_, file, from) =>
    underLoad(policy, new PatchedBuild(file, from, `${FAILS_ONCE}\n${from}`), async (host, killer, load) => {
      const failed = (): boolean => host.events.some(({ type }) => type === 'fault')
      while (!failed()) {
        await killer.untilServed()
        await sleep(Math.random() * 50)
        await killer.kill('received')
        await killer.untilServed()
      }
      expect((await load.end()).failures).toEqual({})
      expect(host.events.filter(({ type }) => type === 'fault')).toEqual([
        { type: 'fault', message: expect.stringMatching(/^The engine failed: (a thread failed: )?of a test$/) },
      ])
    }),
)

/** Right after the caller has got a descriptor, and before that is settled. */
const GIVEN = 'const number = this.answer.descriptor(listener, slot, fd, { cloexec, isAnswer });'

const GIVING = [
  { name: 'fsopen', why: cannotMount },
  { name: 'fsmount', why: cannotMount },
  { name: 'bpf', why: withoutCgroups() },
] as const

for (const { name, why } of GIVING) {
  const what = `an engine that ends when ${name} has given its descriptor is replaced by one that gives no other`
  test.skipIf(why)(withReason(what, why), { timeout: 60_000 }, () => {
    const isIt = `this.#slots.view.getInt32(slot + ${NOTIF.nr}, true) === ${ownSyscalls(process.arch)[name]}`
    const build = new PatchedBuild('engine/serve/call-end.js', GIVEN, `${GIVEN} if (${isIt}) ${ENDS_ONCE}`)
    return underLoad(policy, build, async (host, _, load) => {
      await until('it ends', () => host.events.some(({ type }) => type === 'engineEnded'), 40)
      await until('the next one serves', () => host.restarts > 0, 60)
      await sleep(1000)
      expect((await load.end()).failures).toEqual({})
    })
  })
}
