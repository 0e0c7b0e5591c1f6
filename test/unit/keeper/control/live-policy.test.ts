import { expect, test } from 'vitest'
import type { Decision } from '../../../../src/keeper/containers/admission.ts'
import type { ContainerEntry } from '../../../../src/keeper/containers/registry.ts'
import { planReload } from '../../../../src/keeper/control/live-policy.ts'
import { defaults } from '../../../../src/policy/settings.ts'

const handover = { id: 'c', bundle: '', annotations: {} }
/** A container whose policy is invalid if there is something wrong with it. */
function entryOf(profile?: string, wrong?: string): ContainerEntry {
  const barred = wrong === undefined ? {} : { barred: 'policyInvalid' }
  const container = { id: 'c', policy: {}, ...barred }
  const entry = { container, handover, settings: defaults, profile, set: [], init: { handles: {} }, listeners: 1 }
  return { ...entry, wrong } as unknown as ContainerEntry
}
const decided = (said: object): Decision =>
  ({
    resolved: { details: {} },
    said: { policy: {}, settings: defaults, ...said },
    withheld: [],
  }) as unknown as Decision
const invalid = (wrong: string) => decided({ barred: 'policyInvalid', wrong })

test('a reload that changes nothing for a container leaves it as it is', () => {
  for (const profile of [undefined, 'vpn'])
    expect(planReload(entryOf(profile), () => decided({ profile })).change).toBe(undefined)
  expect(planReload(entryOf(undefined, 'no profile'), () => invalid('no profile')).change).toBe(undefined)
})

test('a container loses its policy once: another reason for it is none to refuse a reload', () => {
  expect(planReload(entryOf('vpn'), () => invalid('no profile')).loses).toBe('no profile')
  const again = planReload(entryOf('vpn', 'no profile'), () => invalid('no profile (did you mean "vpn2"?)'))
  expect(again).toMatchObject({ loses: undefined, wrong: 'no profile (did you mean "vpn2"?)' })
})
