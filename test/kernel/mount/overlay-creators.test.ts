import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fixture, missing } from '../../support/fixtures.ts'
import { execute } from '../../support/host.ts'
import { lacks, withReason } from '../../support/skipped.ts'

// Linux 6.15 brought `override_creds` too.
const cannot = missing('gcc') ?? lacks('overlay', 'copyDetached')
const SEEDS = 60

interface Compared {
  readonly native: string
  readonly made: string
  /** Calls whose results differ: of the container's own overlay, and of the host's. */
  readonly differences: ReadonlySet<string>
  readonly trees: number
  readonly calls: number
  readonly succeeded: number
}

async function compare(creator: 'host' | 'container' | 'range'): Promise<Compared> {
  const directory = mkdtempSync(join(tmpdir(), 'overlay-creators-'))
  try {
    const { stdout, stderr } = await execute(fixture('overlay-creators'), [directory, creator, '1', `${SEEDS}`])
    expect(stderr).toBe('')
    const [native = '', made = '', ...lines] = stdout.trim().split('\n')
    const [, calls, succeeded] = /^calls=(\d+) succeeded=(\d+)$/.exec(lines.pop()!)!
    const trees = lines.filter((line) => line.startsWith('tree ')).length
    const differences = new Set(lines.filter((line) => !line.startsWith('tree ')))
    return { native, made, differences, trees, calls: Number(calls), succeeded: Number(succeeded) }
  } finally {
    rmdirSync(directory)
  }
}

/** Opening a device node is what the host's overlay is for. */
const OPENS = ['create EACCES =2', 'read EACCES =0', 'truncate EACCES =2']

describe.skipIf(cannot)(withReason('an overlay of the host for a container (decision 16)', cannot), () => {
  test('keeps credentials of a namespace with the same ids: it is the own one of the container, and nodes open', async () => {
    const { native, made, differences, trees, calls, succeeded } = await compare('range')
    const same = 'hidden=EACCES below=EACCES'
    expect(native).toBe(
      `native version=3 stored=ofRoot ${same} opens=EACCES makes=EPERM setcap=ok getcap=own put=EACCES`,
    )
    // The layer is on a nodev mount: that no longer bars the node.
    expect(made).toBe(`made version=3 stored=ofRoot ${same} opens=ok makes=EPERM setcap=ok getcap=own put=ok`)
    expect([...differences].toSorted()).toEqual(OPENS)
    expect(trees).toBe(0)
    expect(calls).toBeGreaterThan(1000)
    expect(succeeded / calls).toBeGreaterThan(0.2)
  })

  test("keeps the container's own credentials: setcap fails, and file capabilities count on the host", async () => {
    const { made, differences } = await compare('container')
    expect(made).toBe(
      'made version=2 stored=no hidden=EACCES below=EACCES opens=ok makes=EPERM setcap=EINVAL getcap=ENODATA put=ok',
    )
    expect([...differences]).toContain('setxattr =0 EINVAL')
  })

  test("keeps the credentials of root of the host: the container reads a directory that is the host's alone", async () => {
    const { made, trees } = await compare('host')
    expect(made).toContain('hidden=ok')
    expect(trees).toBeGreaterThan(SEEDS / 2)
  })
})
