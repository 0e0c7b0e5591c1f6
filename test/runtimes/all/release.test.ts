import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { execute } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const ROOT = new URL('../../../', import.meta.url).pathname
/** With INTERCEDE_RELEASE=1 for every architecture, and compressed as it is published, which takes minutes. */
const words = process.env.INTERCEDE_RELEASE === '1' ? [] : ['--only', 'x64', '--level', '0']
const isBuilt = (name: string): boolean => words.length === 0 || !name.includes('arm64')

const lacks = await execute('sh', ['-c', 'command -v dpkg-buildpackage dh git xz'])
const why = lacks.status === 0 ? undefined : 'dpkg-dev, debhelper, git or xz is not installed'

test.skipIf(why)(
  withReason('everything that is published is made of the last commit, twice the same', why),
  { timeout: 3_000_000 },
  async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'intercede-release-test-'))
    try {
      const [first, second] = [join(scratch, 'first'), join(scratch, 'second')]
      for (const to of [first, second]) {
        const done = await execute('npm', ['run', '--silent', 'release', '--', '--dry-run', '--to', to, ...words], {
          cwd: ROOT,
        })
        expect(done, done.stderr).toMatchObject({ status: 0 })
      }
      const names = readdirSync(first).map((name) => name.replace(/\d+\.\d+\.\d+/, 'N'))
      expect(names.sort()).toEqual(
        [
          ...['SHA256SUMS', 'intercede-N.cdx.json', 'intercede-N.tgz', 'intercede-linux-arm64.tar.xz'],
          ...['intercede-linux-x64.tar.xz', 'intercede_N_amd64.deb', 'intercede_N_arm64.deb'],
        ].filter(isBuilt),
      )
      const sums = (directory: string): string => readFileSync(join(directory, 'SHA256SUMS'), 'utf8')
      expect(sums(second)).toBe(sums(first))
      // The archive is of use on a machine that has no Node.
      expect(
        (await execute('tar', ['-x', '-f', join(first, 'intercede-linux-x64.tar.xz'), '-C', scratch])).status,
      ).toBe(0)
      const program = join(scratch, 'intercede-linux-x64/bin/intercede')
      const run = await execute('env', ['-i', 'PATH=/usr/bin:/bin', program, '--version'])
      expect(run).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d/) })
      const pages = ['man/intercede.1', 'man/intercede.yaml.5', 'completions/intercede.bash', 'completions/_intercede']
      for (const name of pages)
        expect(existsSync(join(scratch, 'intercede-linux-x64/lib/intercede/dist', name))).toBe(true)
      const packed = join(first, readdirSync(first).find((name) => name.endsWith('.tgz'))!)
      const npm = [
        'install',
        '--global',
        '--prefer-offline',
        '--ignore-scripts',
        '--prefix',
        join(scratch, 'npm'),
        packed,
      ]
      expect(await execute('npm', npm)).toMatchObject({ status: 0 })
      expect(readdirSync(join(scratch, 'npm/share/man'), { recursive: true })).toEqual(
        expect.arrayContaining(['man1/intercede-run.1', 'man5/intercede.yaml.5', 'man7/intercede-policy.7']),
      )
      const bill = JSON.parse(
        readFileSync(join(first, readdirSync(first).find((name) => name.endsWith('.cdx.json'))!), 'utf8'),
      )
      expect(bill).toMatchObject({
        bomFormat: 'CycloneDX',
        components: expect.arrayContaining([expect.objectContaining({ name: 'koffi' })]),
      })
    } finally {
      rmSync(scratch, { recursive: true })
    }
  },
)
