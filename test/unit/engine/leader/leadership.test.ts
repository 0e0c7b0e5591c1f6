import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { LEADERSHIP_WORDS, Leadership } from '../../../../src/engine/leader/leadership.ts'
import { ACTIVITY_WORDS, ThreadActivity } from '../../../../src/engine/leader/thread-activity.ts'
import type { Alarm } from '../../../../src/kernel/clock.ts'
import { now } from '../../../../src/kernel/clock.ts'

/** Of threads that run here one after the other: what one does while another one is parked is done by its alarm. */
class World {
  /** An alarm that goes off at once for whoever waits. */
  readonly alarm: { set: () => unknown; ring: () => void; wait: () => void } = {
    set: () => {},
    ring: () => {},
    wait: () => {},
  }
  /** Those that have work; the others wait. */
  readonly running = new Set<number>()
  readonly struck: number[] = []
  readonly hanging: number[] = []
  mayHang = false
  readonly #lead = new Int32Array(new SharedArrayBuffer(4 * LEADERSHIP_WORDS))
  readonly #workers = new Int32Array(new SharedArrayBuffer(4 * ACTIVITY_WORDS))
  #threads = 0

  thread(): Leadership {
    const workers = new ThreadActivity(this.#workers, ++this.#threads as Tid, (thread) => this.running.has(thread))
    const lead = new Leadership(this.#lead, workers, {
      processors: 2,
      alarm: this.alarm as unknown as Alarm,
      strike: (container) => this.struck.push(container),
      onHang: (thread) => this.hanging.push(thread),
      mayHang: () => this.mayHang,
    })
    lead.rejoin()
    return lead
  }

  get active(): number {
    return this.#workers[0]!
  }
}

/** Posts so often that parked threads are woken for it, the deputy among them. */
function ring(it: Leadership): void {
  for (let posts = 0; posts < 64; posts++) it.notePost()
}

test('one thread leads, and serves, and leads again', () => {
  const world = new World()
  const [one, other] = [world.thread(), world.thread()]
  expect([one.take(), one.isOurs]).toEqual([true, true])
  expect([other.take(), other.isOurs]).toEqual([false, false])
  one.serve(7, 0)
  one.rejoin()
  expect(one.isOurs).toBe(true)
  one.handOver()
  expect(one.isOurs).toBe(false)
  expect(other.take()).toBe(true)
})

test('the deputy leads when the leader is late, which is struck, and counted out until it comes back', () => {
  const world = new World()
  const [late, deputy] = [world.thread(), world.thread()]
  late.take()
  ring(late)
  deputy.park()
  expect(deputy.isOurs).toBe(false)
  late.serve(7, 0)
  deputy.park()
  expect([deputy.isOurs, world.struck, world.active]).toEqual([true, [7], 1])
  deputy.serve(8, 0)
  late.rejoin()
  expect([late.isOurs, late.take(), world.active]).toEqual([false, false, 2])
  deputy.rejoin()
  expect(deputy.isOurs).toBe(true)
})

test('a deputy that is called for messages takes no lead from a leader that is not late', () => {
  const world = new World()
  const [leader, deputy] = [world.thread(), world.thread()]
  leader.take()
  leader.serve(7, 0)
  ring(leader)
  let sets = 0
  world.alarm.set = () => sets++
  deputy.park()
  // The alarm that goes off for the leader is not lost.
  expect([deputy.isOurs, world.struck, sets]).toEqual([false, [], 1])
  leader.rejoin()
  expect(leader.isOurs).toBe(true)
})

test('the messages that wait for a thread are counted, as long as it reads any', () => {
  const world = new World()
  const [main, reading, hanging] = [world.thread(), world.thread(), world.thread()]
  const post = (count: number): void => {
    for (let posts = 0; posts < count; posts++) main.notePost()
  }
  expect(main.unheard).toBe(0)
  for (const each of [reading, hanging]) each.noteHeard(main.epoch)
  post(100)
  reading.noteHeard(main.epoch)
  post(1)
  expect(main.unheard).toBe(101)
  hanging.noteHeard(undefined)
  expect(main.unheard).toBe(1)
})

test("calls that are begun keep the deputy away, and a shared lead is nobody's", () => {
  const world = new World()
  const [leader, deputy] = [world.thread(), world.thread()]
  world.running.add(1)
  let waits = 0
  leader.take()
  world.alarm.wait = () => {
    if (++waits > 3) {
      world.running.clear()
      return
    }
    leader.markReceiving()
    leader.receiveTogether(6, 0)
    leader.take()
    leader.serve(7, 0)
  }
  deputy.park()
  expect([deputy.isOurs, world.struck, waits]).toEqual([true, [7], 4])
})

test('a thread that hangs while the lead is shared is struck and counted out, and is back when it comes back', () => {
  const world = new World()
  const [one, other, deputy] = [world.thread(), world.thread(), world.thread()]
  one.take()
  one.markReceiving()
  one.receiveTogether(6, 0)
  other.take()
  world.running.add(2)
  let waits = 0
  world.alarm.wait = () => {
    if (++waits > 1) return
    other.markReceiving()
    other.receiveTogether(8, now())
  }
  deputy.park()
  expect([deputy.isOurs, world.struck, world.active]).toEqual([true, [6], 2])
  one.rejoin()
  expect(world.active).toBe(3)
})

test('who waits for a moment while the lead is shared is neither struck nor counted out', () => {
  const world = new World()
  const [one, deputy] = [world.thread(), world.thread()]
  one.take()
  one.markReceiving()
  one.receiveTogether(6, now() - 4)
  deputy.park()
  expect([deputy.isOurs, world.struck, world.active]).toEqual([true, [], 2])
  one.handOver()
  expect(world.active).toBe(1)
})

test('a leader that waits for calls is not struck', () => {
  const world = new World()
  const [leader, deputy] = [world.thread(), world.thread()]
  leader.take()
  leader.serve(7, 0)
  let waits = 0
  world.alarm.wait = () => {
    leader.rejoin()
    leader.markWaiting()
    if (++waits === 3) ring(leader)
  }
  deputy.park()
  expect([deputy.isOurs, world.struck]).toEqual([false, []])
})

test.each([
  { what: 'has hung', ms: 20, mayHang: true, hanging: [2], struck: [6], looks: 1 },
  { what: 'works for some milliseconds', ms: 4, mayHang: true, hanging: [], struck: [], looks: 1 },
  { what: 'nobody waits for', ms: 4, mayHang: false, hanging: [], struck: [], looks: 0 },
])('while the leader waits, the deputy looks at a thread that $what', ({ ms, mayHang, hanging, struck, looks }) => {
  const world = new World()
  const [leader, helper, deputy] = [world.thread(), world.thread(), world.thread()]
  leader.take()
  leader.markWaiting()
  helper.helpServe(6, now() - ms)
  world.mayHang = mayHang
  let [waits, sets] = [0, 0]
  world.alarm.set = () => sets++
  world.alarm.wait = () => {
    if (++waits === 2) ring(leader)
  }
  deputy.park()
  expect([world.hanging, world.struck, sets]).toEqual([hanging, struck, looks])
})

test('a leader learns that there is no deputy, and nobody who could be one', () => {
  const world = new World()
  const [leader, deputy] = [world.thread(), world.thread()]
  leader.take()
  expect(leader.callDeputy()).toBe(false)
  leader.serve(7, 0)
  world.alarm.wait = () => expect(leader.callDeputy()).toBe(true)
  deputy.park()
  expect(deputy.isOurs).toBe(true)
  expect(deputy.callDeputy()).toBe(false)
})

test('a shared lead goes to whoever asks first', () => {
  const world = new World()
  const [one, other] = [world.thread(), world.thread()]
  one.take()
  one.markReceiving()
  one.receiveTogether(7, 0)
  expect(one.isOurs).toBe(false)
  expect(other.await()).toBe(true)
  expect(one.await()).toBe(false)
  one.handOver()
  expect([other.isOurs, one.take()]).toEqual([true, false])
})

test('a leader that has work to do is waited for', () => {
  const world = new World()
  const [leader, deputy] = [world.thread(), world.thread()]
  leader.take()
  leader.serve(7, 0)
  let waits = 0
  world.running.add(1)
  world.alarm.wait = () => {
    if (++waits === 3) world.running.clear()
  }
  deputy.park()
  expect([deputy.isOurs, world.struck, waits]).toEqual([true, [7], 3])
})

/** Whatever late threads do: there is never a second leader, and those who work are counted. */
test('a late thread never takes or frees the lead of another', () => {
  const steps = fc.array(
    fc.tuple(fc.constantFrom('take', 'receive', 'wait', 'serve', 'share', 'park', 'resume', 'pass'), fc.nat(3)),
    { maxLength: 80 },
  )
  fc.assert(
    fc.property(steps, (words) => {
      const world = new World()
      const threads = Array.from({ length: 4 }, () => ({ lead: world.thread(), away: false }))
      let rung = false
      let current: { thread: number; is: 'waiting' | 'receiving' | 'serving' } | undefined
      for (const [step, number] of words) {
        const thread = threads[number]!
        const { lead } = thread
        const leads = current?.thread === number
        const counted = (): number => threads.filter(({ away }) => !away).length
        if (step === 'take' && !lead.isOurs) {
          expect(lead.take()).toBe(current === undefined)
          current ??= { thread: number, is: 'waiting' }
        } else if (step === 'serve' && leads) {
          lead.serve(1, 0)
          current = { thread: number, is: 'serving' }
        } else if ((step === 'receive' || step === 'wait') && leads && current!.is !== 'serving') {
          step === 'receive' ? lead.markReceiving() : lead.markWaiting()
          current = { thread: number, is: step === 'receive' ? 'receiving' : 'waiting' }
        } else if (step === 'share' && leads && current!.is === 'receiving') {
          lead.receiveTogether(1, 0)
          current = undefined
        } else if (step === 'park' && !lead.isOurs) {
          // Nobody rings: a deputy would wait for ever where the leader waits for calls.
          if (current && current.is !== 'serving') {
            ring(lead)
            rung = true
          }
          // The deputy looks who waits, unless somebody rang: then it takes only a lead that nobody has.
          if (!rung) for (const each of threads) each.away = true
          const leads = current === undefined || (current.is === 'serving' && !rung)
          rung = false
          lead.park()
          thread.away = false
          expect(lead.isOurs).toBe(leads)
          if (lead.isOurs) current = { thread: number, is: 'waiting' }
        } else if (step === 'resume' && (!leads || current!.is === 'serving')) {
          lead.rejoin()
          thread.away = false
          if (leads) current = { thread: number, is: 'waiting' }
          else expect(lead.isOurs).toBe(false)
        } else if (step === 'pass') {
          lead.handOver()
          thread.away = true
          if (leads) current = undefined
          rung ||= current === undefined
        }
        expect(world.active, step).toBe(counted())
        for (const [other, { lead: its }] of threads.entries())
          if (current?.thread === other) expect(its.isOurs).toBe(true)
      }
    }),
    // Somebody rang while nobody led.
    {
      examples: [
        [
          [
            ['pass', 0],
            ['take', 1],
            ['serve', 1],
            ['park', 0],
          ],
        ],
      ],
    },
  )
})
