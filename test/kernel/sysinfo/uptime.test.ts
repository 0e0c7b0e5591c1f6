import { expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { Host } from '../../support/host.ts'

/** In a file of its own, since it takes its minute: other files run meanwhile. */
const SECONDS = 60

test('the uptime of a container never goes back over a minute, for either architecture', {
  timeout: 180_000,
}, async () => {
  const host = await Host.start({ sysinfo: {} })
  try {
    const samples = ['--samples', `${SECONDS * 100}`, '--interval', '10000']
    const programs = [fixture('sysinfo'), fixture('sysinfo', ['-m32', '-static'])]
    const all = await Promise.all(programs.map((program) => host.run(['--all-sysinfo'], [program, ...samples])))
    for (const { stdout } of all) {
      const { last, ...rest } = JSON.parse(stdout) as { readonly last: number }
      expect(rest).toEqual({ samples: SECONDS * 100, first: 1, back: 0, errors: 0 })
      expect(last).toBeGreaterThan(SECONDS)
    }
  } finally {
    host.close()
  }
})
