import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { execute } from '../../support/host.ts'
import { INTERCEDE, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = unable()
describe.skipIf(cannot)(withReason('intercede run --bind', cannot), () => {
  const scratch = mkdtempSync(join(tmpdir(), 'intercede-bind-'))
  const closed = join(scratch, 'closed/inner')
  const file = join(scratch, 'file')
  beforeAll(() => {
    chmodSync(scratch, 0o755)
    mkdirSync(dirname(closed), { mode: 0o700 })
    mkdirSync(closed)
    writeFileSync(file, 'text\n', { mode: 0o644 })
  })
  afterAll(() => rmSync(scratch, { recursive: true }))

  test('shows a file, at a new path and over one that is there', () => {
    const binds = ['--bind', `${file}:/opt/new/name`, '--bind', `${file}:/etc/hostname:ro`]
    const { stdout } = run([...binds, ...sh('cat /opt/new/name /etc/hostname; echo x >/etc/hostname')])
    expect(stdout).toBe('text\ntext\n')
    expect(readFileSync(file, 'utf8')).toBe('text\n')
  })

  test('shows what is mounted below, with the owners of the host', async () => {
    const script = `mkdir -p ${scratch}/top/below && mount -t tmpfs none ${scratch}/top/below && touch ${scratch}/top/below/x`
    const shown = `run --bind ${scratch}/top:/see -- sh -c 'stat -c %U /see/below/x; touch /see/y 2>&1'`
    const { stdout } = await execute('unshare', [
      '--mount',
      'sh',
      '-c',
      `${script} && "${process.execPath}" "${INTERCEDE}" ${shown}`,
    ])
    expect(stdout).toMatch(/^nobody\n.*Permission denied\n$/)
  })

  test('keeps with idmap what is made, by whom it was made', () => {
    const script = `cd ${closed} && touch root && install -o 33 -g 33 -m 4755 /bin/true www && stat -c %u:%g root www .`
    expect(run(['--bind', `${closed}:idmap`, ...sh(script)])).toMatchObject({ status: 0, stdout: '0:0\n33:33\n0:0\n' })
    const owner = (name: string): number[] => [statSync(join(closed, name)).uid, statSync(join(closed, name)).gid]
    expect([owner('root'), owner('www')]).toEqual([
      [0, 0],
      [33, 33],
    ])
  })

  test('makes there with the key mknod nodes that belong to root and are kept', () => {
    const script =
      'mknod /kept/null c 1 3 && echo gone >/kept/null && stat -c %u:%t:%T /kept/null; mknod /kept/mem c 1 1'
    const { stdout } = run(['-c', 'mknod', '--bind', `${closed}:/kept:idmap`, ...sh(script)])
    expect(stdout).toBe('0:1:3\n')
    expect(statSync(join(closed, 'null')).isCharacterDevice()).toBe(true)
  })

  test('writes nothing through a read-only idmapped one, which everybody may reach', () => {
    const script = 'cat /see/file && stat -c %u /see/file; touch /see/x 2>&1'
    expect(run(['--bind', `${scratch}:/see:ro:idmap`, ...sh(script)]).stdout).toMatch(
      /^text\n0\n.*Read-only file system/,
    )
  })

  test('can be reached where a directory on the way is closed to the container', () => {
    const way = mkdtempSync('/srv/intercede-bind-')
    try {
      for (const name of ['one', 'other', 'hidden']) mkdirSync(join(way, name), { mode: 0o777 })
      const binds = ['--bind', `${way}/one:idmap`, '--bind', `${way}/other:ro`]
      expect(run([...binds, ...sh(`ls ${way} && touch ${way}/one/made && ls ${way}/other`)])).toMatchObject({
        status: 0,
        stdout: 'one\nother\n',
        stderr: '',
      })
      expect(statSync(join(way, 'one/made')).uid).toBe(0)
    } finally {
      rmSync(way, { recursive: true })
    }
  })

  const noBusybox = missing('busybox')
  test.skipIf(noBusybox)(withReason('makes mount points in a tree of the host, for files too', noBusybox), () => {
    const tree = join(closed, 'tree')
    mkdirSync(join(tree, 'bin'), { recursive: true })
    copyFileSync('/usr/bin/busybox', join(tree, 'bin/busybox'))
    symlinkSync('busybox', join(tree, 'bin/sh'))
    const args = ['--rootfs', tree, '--bind', `${file}:/a/b`, '--bind', `${closed}:/c:idmap`]
    expect(run([...args, ...sh('/bin/busybox cat /a/b; echo kept >/c/of-tree')])).toMatchObject({
      stdout: 'text\n',
      status: 0,
    })
    expect(statSync(join(closed, 'of-tree')).uid).toBe(0)
  })
})
