import { expect, test } from 'vitest'
import { BITS, fixture } from '../../support/fixtures.ts'
import { Host } from '../../support/host.ts'

/** In a file of its own: other files run meanwhile. */
const SECONDS = 20
/** Often enough to meet each new second as it begins. */
const PER_SECOND = 250

test('the uptime of a container never goes back, for either architecture', async () => {
  const host = await Host.start({ sysinfo: {} })
  try {
    const samples = ['--samples', `${SECONDS * PER_SECOND}`, '--interval', `${1e6 / PER_SECOND}`]
    const programs = BITS.map((bits) => fixture('sysinfo', bits === 32 ? ['-m32', '-static'] : []))
    const all = await Promise.all(programs.map((program) => host.run(['--all-sysinfo'], [program, ...samples])))
    for (const { stdout } of all) {
      const { last, ...rest } = JSON.parse(stdout) as { readonly last: number }
      expect(rest).toEqual({ samples: SECONDS * PER_SECOND, first: 1, back: 0, errors: 0 })
      expect(last).toBeGreaterThan(SECONDS)
    }
  } finally {
    host.close()
  }
})
