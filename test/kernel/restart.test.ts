import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { Host, until } from './host.ts'
import { stateOf } from './journal-view.ts'
import { Killer, Load, policy, STATES, sleep } from './restart-world.ts'

/** More on demand: npm run restart. */
const KILLS = Number(process.env.INTERCEDE_KILLS ?? 20)
/** With so many kills each state is met often enough to say that it was tested. */
const MANY = 400
const OFTEN = 20
const LOSE_WITHIN = 40

const registered = (host: Host): Promise<void> =>
  until('the container is known', () => host.events.some(({ type }) => type === 'registered'))

test(
  `${KILLS} times SIGKILL under load: every call returns what it must, and is done once`,
  async () => {
    const host = await Host.start(policy)
    host.mayLoseEngine = true
    const load = new Load(host, 'load')
    try {
      await registered(host)
      const killer = new Killer(host)
      for (let kill = 0; kill < KILLS; kill++) {
        // Now and then the engine has not even started.
        if (kill % 7 !== 0) await killer.untilServed()
        await sleep(Math.random() * 100)
        await killer.kill(STATES[kill % STATES.length]!)
      }
      const said = await load.end()
      console.log(`${killer.kills} kills, calls left in the states`, killer.met, said)
      expect(said.failures).toEqual({})
      expect(said.acts).toBeGreaterThan(said.calls / 3)
      expect(await load.onDisk()).toEqual({ nodes: said.nodes, attributes: said.attributes })
      if (KILLS >= MANY) for (const state of STATES) expect(killer.met[state], state).toBeGreaterThanOrEqual(OFTEN)
      expect(host.events.filter(({ type }) => type === 'fault' || type === 'refused')).toEqual([])
      // The container is still served.
      const { result } = await host.call(['mknod', join(host.directory, 'after'), '020666', '1', '3'])
      expect(result).toBe('ok')
    } finally {
      await load.kill()
      host.close()
    }
  },
  20_000 + 2000 * KILLS,
)

const RECEIVES = 'notifRecv(listener, this.#slots.notification(slot))'
const COPIES = `
const own = new Uint8Array(80)
function copied(listener, slot) {
  own.fill(0)
  if (!notifRecv(listener, own)) return false
  slot.set(own)
  return true
}
`

/** The build, but that it receives into memory of its own, and copies that into the slot. */
function copyingBuild(): URL {
  const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
  const build = mkdtempSync(join(cache, 'intercede-copying-'))
  cpSync(new URL('../../dist', import.meta.url), build, { recursive: true })
  const file = join(build, 'engine/thread.js')
  const text = readFileSync(file, 'utf8')
  expect(text.split(RECEIVES)).toHaveLength(2)
  const [before, after] = text.split('\nclass EngineThread', 2)
  writeFileSync(
    file,
    `${before}${COPIES}class EngineThread${after!.replace(RECEIVES, RECEIVES.replace('notifRecv', 'copied'))}`,
  )
  return pathToFileURL(`${build}/`)
}

test('control: an engine that copies what it has received into the slot loses a call', {
  timeout: 120_000,
}, async () => {
  const build = copyingBuild()
  // Mounts would only start programs of a build that is removed.
  const { mount: _, ...quick } = policy
  const host = await Host.start(quick, {}, build)
  host.mayLoseEngine = true
  const load = new Load(host, 'load')
  try {
    await registered(host)
    const killer = new Killer(host)
    const lost = (): boolean =>
      host.events.some(({ type, ...said }) => type === 'fault' && /were lost/.test(JSON.stringify(said)))
    while (!lost() && killer.kills < LOSE_WITHIN) {
      await killer.untilServed()
      await sleep(Math.random() * 50)
      await killer.kill('waiting')
    }
    await killer.untilServed()
    console.log(`a call was lost at kill ${killer.kills}`, killer.met)
    expect(lost()).toBe(true)
  } finally {
    await load.kill()
    const pid = host.maybeEnginePid
    host.close()
    // What it starts is read from there.
    await until('the engine is gone', () => pid === undefined || stateOf(pid) === '')
    rmSync(build, { recursive: true, force: true })
  }
})
