import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixture, missing } from '../../support/fixtures.ts'
import { hasRuntime, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const OPAQUE = 'trusted.overlay.opaque'
const absent = unable() ?? missing('setfattr', 'getfattr', 'tar')

/** What everybody sees and the container writes to. */
let shared: string

beforeAll(() => {
  shared = mkdtempSync(join(tmpdir(), 'intercede-xattr-'))
  chmodSync(shared, 0o777)
  copyFileSync(fixture('caller', ['-static']), join(shared, 'caller'))
})
afterAll(() => rmSync(shared, { recursive: true, force: true }))

/** As the host sees it; empty if there is none. */
function seen(name: string): string {
  try {
    const args = ['-h', '--only-values', '-n', OPAQUE, join(shared, name)]
    return execFileSync('getfattr', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

describe.skipIf(absent).each(['crun', 'runc'] as const)(
  withReason('attributes in intercede run with %s', absent),
  (runtime) => {
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })
    const inside = (keys: readonly string[], script: string) =>
      run(['--runtime', runtime, ...keys.flatMap((key) => ['-c', key]), '--bind', `${shared}:/shared`, ...sh(script)])

    test('setfattr, setfattr -h and a descriptor set it, and the host sees it', () => {
      const names = ['dir', 'link', 'file', 'file2'].map((name) => `${runtime}-${name}`)
      const [dir = '', link = '', file = '', file2 = ''] = names
      const set = `setfattr -n ${OPAQUE} -v y`
      const script = `cd /shared && mkdir ${dir} && ln -s nowhere ${link} && touch ${file} ${file2} &&
      ${set} ${dir} && ${set} -h ${link} && ./caller fsetxattr ${file} && ./caller setxattrat ${file2}`
      const { status, stderr } = inside(['setxattr'], script)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(names.map(seen)).toEqual(['y', 'y', 'y', 'y'])
    })

    test('other attributes are as without us', () => {
      const name = `${runtime}-other`
      const script = `cd /shared && touch ${name} && setfattr -n user.blah -v blah ${name} && getfattr --only-values -n user.blah ${name}
      setfattr -n trusted.blah -v blah ${name}; setfattr -n ${OPAQUE} -v yes ${name}; getfattr -n ${OPAQUE} ${name}`
      const { stdout, stderr } = inside(['setxattr'], script)
      expect(stdout).toBe('blah')
      // Had one call been trapped, the end would tell what became of it.
      expect(stderr.split('\n')).toEqual([
        `setfattr: ${name}: Operation not permitted`,
        `setfattr: ${name}: Operation not permitted`,
        `${name}: ${OPAQUE}: No such attribute`,
        '',
      ])
      const short = inside(['setxattr'], `cd /shared && setfattr -n user.blah -v b ${name}`)
      expect(short.stderr).toBe('')
      const trusted = inside(['setxattr'], `cd /shared && ! setfattr -n trusted.blah -v b ${name}`)
      expect(trusted.stderr).toMatch(/^intercede: setxattr left to the kernel: the policy does not list the attribute/m)
    })

    test('the attribute can be read, listed and removed with setxattr.read', () => {
      const name = `${runtime}-read`
      const script = `cd /shared && touch ${name} && setfattr -n user.a -v b ${name} && setfattr -n ${OPAQUE} -v y ${name} &&
      getfattr -d -m - ${name} && setfattr -x ${OPAQUE} ${name} && getfattr -d -m - ${name}`
      expect(inside(['setxattr', 'setxattr.read'], script).stdout).toBe(
        `# file: ${name}\n${OPAQUE}="y"\nuser.a="b"\n\n# file: ${name}\nuser.a="b"\n\n`,
      )
      expect(seen(name)).toBe('')
    })

    test('tar unpacks 1,000 files with user attributes, and not one call is trapped', () => {
      const script = `mkdir /root/from && cd /root/from && for i in $(seq 1000); do : >$i; done && setfattr -n user.name -v value * &&
      tar -c --xattrs -f ../all.tar . && mkdir ../to && cd ../to && tar -x --xattrs -f ../all.tar &&
      getfattr --absolute-names -n user.name -- * | grep -c '^user.name="value"$'`
      const { stdout, stderr } = inside(['setxattr'], script)
      expect([stdout, stderr]).toEqual(['1000\n', ''])
    })

    test('a directory that it made opaque hides the lower one in an overlay of the host', () => {
      const place = join(shared, `${runtime}-overlay`)
      for (const name of ['', 'lower', 'lower/dir', 'lower/plain', 'upper', 'work', 'merged'])
        mkdirSync(join(place, name))
      writeFileSync(join(place, 'lower/dir/below'), '')
      writeFileSync(join(place, 'lower/plain/below'), '')
      chmodSync(join(place, 'upper'), 0o777)
      const script = `cd /shared/${runtime}-overlay/upper && mkdir dir plain && touch dir/above && setfattr -n ${OPAQUE} -v y dir`
      expect(inside(['setxattr'], script).stderr).toBe('')
      const layers = 'lowerdir=lower,upperdir=upper,workdir=work'
      const look = `mount -t overlay -o ${layers} overlay merged && ls merged/dir merged/plain`
      const listed = execFileSync('unshare', ['--mount', 'sh', '-c', look], { cwd: place, encoding: 'utf8' })
      expect(listed).toBe('merged/dir:\nabove\n\nmerged/plain:\nbelow\n')
    })
  },
)
