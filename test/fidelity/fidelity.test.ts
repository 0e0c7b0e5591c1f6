import { readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../support/fixtures.ts'
import { unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'
import { families } from './cases/index.ts'
import { listOf, pageOf, type Result, resultsOf } from './page.ts'
import { podmanReasons, reasons } from './reasons.ts'
import { outcomes, scriptOf } from './script.ts'
import { type SideName, Sides } from './sides.ts'

/** Makes all cases on all sides, and compares what they give with each other and with docs/guide/fidelity.md. */

const PAGE = new URL('../../docs/guide/fidelity.md', import.meta.url)
const LIST = new URL('results.tsv', import.meta.url)
const MAKERS = ['mkfs.ext2', 'mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs', 'mksquashfs', 'mkfs.erofs']
const cannot =
  unable() ?? missing('gcc', 'podman', 'newuidmap', 'losetup', 'getfattr', 'setfattr', 'chrt', 'setpriv', ...MAKERS)

/** A case can depend on more of a machine than this, but on this it does. */
const kernel = `Linux ${release().split('.', 2).join('.')} on ${process.arch}`
const isWritten = process.env.FIDELITY_WRITE === '1'
const written = isWritten ? '' : readFileSync(PAGE, 'utf8')
const another = isWritten || written.includes(`Taken on ${kernel}.`) ? undefined : 'the page is of another kernel'

const titleOf = ({ family, case: { name } }: Result): string => `${family}: ${name}`

describe.skipIf(cannot)(withReason('calls as root of the host, without keys and with all keys', cannot), () => {
  let results: readonly Result[]
  let observed: readonly string[]

  beforeAll(async () => {
    using sides = new Sides()
    const script = scriptOf(families.flatMap(({ cases }) => cases))
    const take = async (side: SideName) => outcomes(await sides.run(side, script))
    // Without keys, and in observe mode, nothing is mounted from a device, so these do not stand in each other's way.
    const [native, without, third] = await Promise.all([take('native'), take('without'), take('observed')])
    observed = third
    results = resultsOf(families, { native, without, ours: await take('ours'), podman: await take('podman') })
    if (!isWritten) return
    writeFileSync(LIST, listOf(results))
    writeFileSync(PAGE, pageOf(families, results, kernel))
  }, 600_000)

  test('every case has a name of its own, and says something on each side', () => {
    const titles = results.map(titleOf)
    expect(titles.filter((title, index) => titles.indexOf(title) !== index)).toEqual([])
    const silent = results.filter(({ native, without, ours, podman }) => [native, without, ours, podman].includes(''))
    expect(silent.map(titleOf)).toEqual([])
  })

  test('with all keys in observe mode a container gets what it gets without keys', () => {
    const acted = results.filter(({ without }, index) => observed[index] !== without)
    expect(acted.map((one) => `${titleOf(one)}: ${observed[results.indexOf(one)]} instead of ${one.without}`)).toEqual(
      [],
    )
  })

  test('with all keys a container gets what root of the host gets, or there is a reason', () => {
    const unexplained = results.filter(({ native, ours, case: { why } }) => native !== ours && why === undefined)
    expect(unexplained.map((one) => `${titleOf(one)}: ${one.ours} instead of ${one.native}`)).toEqual([])
  })

  test('what has a reason differs, and every reason is needed', () => {
    const needless = results.filter(({ native, ours, case: { why } }) => native === ours && why !== undefined)
    expect(needless.map(titleOf)).toEqual([])
    const used = new Set(results.map(({ case: { why } }) => why))
    expect(Object.keys(reasons).filter((name) => !used.has(name as keyof typeof reasons))).toEqual([])
  })

  test('podman gives what run gives, or there is a reason', () => {
    const wrong = results.filter(({ ours, podman, case: one }) => (ours !== podman) !== (one.podman !== undefined))
    expect(wrong.map((one) => `${titleOf(one)}: ${one.podman} instead of ${one.ours}`)).toEqual([])
    const used = new Set(results.map(({ case: { podman } }) => podman))
    expect([...used].filter((name) => name !== undefined).sort()).toEqual(Object.keys(podmanReasons).sort())
  })

  test.skipIf(another)(
    withReason('docs/guide/fidelity.md is what the cases give: else run "npm run fidelity -- --write"', another),
    () => {
      expect(readFileSync(LIST, 'utf8')).toBe(listOf(results))
      expect(readFileSync(PAGE, 'utf8')).toBe(pageOf(families, results, kernel))
    },
  )
})
