import { isDeepStrictEqual } from 'node:util'
import type { Fd } from '../../kernel/fd.ts'
import { trappedCalls } from '../../runtimes/trapped-calls.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { KeeperOptions } from '../process/events.ts'
import type { Admission } from './admission.ts'
import type { Registry } from './registry.ts'

/** Restores the containers of the previous keeper. Our configuration decides again what the engine may do for them. */
export function restoreContainers(
  state: PersistedState,
  registry: Registry,
  admission: Admission,
  onEvent: KeeperOptions['onEvent'],
): void {
  const fault = (message: string): void => onEvent({ type: 'fault', message })
  const leave = (number: number, container: number, fd: Fd): void => {
    fault(`Cannot serve listener ${number} on: its container ${container} is not known any more`)
    state.dropListener(number, container)
    fd[Symbol.dispose]()
  }
  for (const { index, serial, handover, init, settings: before, set = [] } of state.containers(fault)) {
    const { said } = admission.say(handover, set)
    const barred = said.barred ?? (init ? init.barred : 'unknownContainer')
    const entry = registry.add(handover, { ...said, ...(barred ? { barred } : {}) }, init, { index, serial })
    const { container, settings } = entry
    entry.set = set
    // A container that an older version stored has no serial, and no settings.
    if (serial !== container.serial || !isDeepStrictEqual(settings, before)) {
      state.dropContainer(index, init)
      state.keepContainer({ index, serial: container.serial, handover, init, settings, set })
    }
    const traps = trappedCalls(handover) ?? 'unknown'
    onEvent({ type: 'resumed', id: handover.id, before, settings, policy: said.policy, traps })
  }
  for (const { number, container, fd } of state.listeners()) {
    const entry = registry.at(container)
    if (entry) registry.hold(entry, fd, 'listener', number)
    else leave(number, container, fd)
  }
  for (const { container, init } of registry.tidy()) state.dropContainer(container.index, init)
}
