import { expect, test, vi } from 'vitest'
import { PARKING_WORDS, ParkingLot } from '../../../../src/engine/leader/parking-lot.ts'

const seats = (): ParkingLot => new ParkingLot(new Int32Array(new SharedArrayBuffer(4 * PARKING_WORDS)))

test('who is wanted does not stay, and who was woken before it sleeps does not sleep', () => {
  const it = seats()
  it.sit(0, () => it.parked === 1)
  it.sit(0, () => {
    it.wakeOne()
    return false
  })
  expect(it.parked).toBe(0)
})

/** A thread that sits while another one is about to: the second is within the first one's question. */
const two = (it: ParkingLot, meanwhile: () => boolean, [first, second] = [0, 1]): void =>
  it.sit(first, () => {
    it.sit(second, meanwhile)
    return false
  })

test.each([
  [0, 1],
  [1, 0],
])('the older thread is woken: the other one must be wanted, or it would sleep for ever: %d sits first', (...ages) => {
  const it = seats()
  const isOlder = ages[1] < ages[0]
  const meanwhile = (): boolean => {
    expect(it.parked).toBe(2)
    it.wakeOne()
    expect(it.parked).toBe(1)
    // The first one may block: it was woken, or is now.
    if (isOlder) it.wakeAll()
    return !isOlder
  }
  two(it, meanwhile, ages)
  expect(it.parked).toBe(0)
})

test('all are woken', () => {
  const it = seats()
  two(it, () => {
    it.wakeAll()
    return false
  })
  expect(it.parked).toBe(0)
})

test('a seat that was left is taken again', () => {
  const it = seats()
  for (let times = 0; times < 2000; times++) it.sit(0, () => true)
  expect(it.parked).toBe(0)
})

test('who is woken in place of the thread that sat there before stays', () => {
  const it = seats()
  const wait = vi.spyOn(Atomics, 'wait')
  wait.mockReturnValueOnce('ok').mockImplementationOnce(() => {
    it.wakeOne()
    return 'ok'
  })
  it.sit(0, () => false)
  expect(it.parked).toBe(0)
  expect(wait).toHaveBeenCalledTimes(2)
  wait.mockRestore()
})
