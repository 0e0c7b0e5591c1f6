// Links that the kernel does not let the caller follow: fs/namei.c pick_link() says ELOOP on a mount with nosymfollow, and
// may_follow_link() EACCES where another user may have planted one. Only paths that cross procfs are followed by us.
import { spawnSync } from 'node:child_process'
import { chownSync, lchownSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { attributesBelow, BASE, directory, Host, mknodPolicy } from '../support/host.ts'
import { INTERCEDE, unable } from '../support/run-machine.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc') ?? missing('getfattr')
const OTHER = BASE + 1000
const CONTAINER = ['--xattr', '--pidns']
const OPAQUE = 'trusted.overlay.opaque y'
const NODE = '020666 1 3'

let host: Host
let serial = 0
beforeAll(async () => {
  if (!cannot) host = await Host.start({ ...mknodPolicy, setxattr: { allowed: new Set<string>(), read: true } })
})
afterAll(() => host?.close())

function file(path: string): void {
  writeFileSync(path, '')
  chownSync(path, BASE, BASE)
}

function link(target: string, path: string, owner: number): void {
  symlinkSync(target, path)
  lchownSync(path, owner, owner)
}

/** Of the container's root, where it stands. */
function place(): string {
  const path = directory(join(host.directory, `place${serial++}`), BASE, 0o755)
  file(join(path, 'f'))
  return path
}

/** Whether the machine has fs.protected_symlinks set or not, which no test may change: without it the kernel says EPERM at the end. */
describe.skipIf(cannot)(withReason('links planted in a directory for all', cannot), () => {
  const sticky = { owner: 0, mode: 0o1777 }
  test.each([
    { what: 'of another user', owner: OTHER, in: sticky, call: `setxattr all/link ${OPAQUE}`, follows: false },
    { what: 'with a slash', owner: OTHER, in: sticky, call: `setxattr all/dir/ ${OPAQUE}`, follows: false },
    { what: 'at the end of another', owner: OTHER, in: sticky, call: `setxattr chain ${OPAQUE}`, follows: false },
    { what: 'not at the end', owner: OTHER, in: sticky, call: `setxattr all/dir/f ${OPAQUE}`, follows: true },
    { what: 'before a dot', owner: OTHER, in: sticky, call: `setxattr all/dir/. ${OPAQUE}`, follows: true },
    { what: 'to where a node is made', owner: OTHER, in: sticky, call: `mknod all/dir/n ${NODE}`, follows: true },
    { what: 'of the caller', owner: BASE, in: sticky, call: `setxattr all/link ${OPAQUE}`, follows: true },
    {
      what: 'of its owner',
      owner: OTHER,
      in: { owner: OTHER, mode: 0o1777 },
      call: `setxattr all/link ${OPAQUE}`,
      follows: true,
    },
    {
      what: 'not sticky',
      owner: OTHER,
      in: { owner: 0, mode: 0o777 },
      call: `setxattr all/link ${OPAQUE}`,
      follows: true,
    },
    {
      what: 'not for all',
      owner: OTHER,
      in: { owner: 0, mode: 0o1775 },
      call: `setxattr all/link ${OPAQUE}`,
      follows: true,
    },
  ])('a link $what: $call', async ({ owner, in: { owner: of, mode }, call, follows }) => {
    const here = place()
    const all = directory(join(here, 'all'), of, mode)
    link('/proc/self/cwd/f', join(all, 'link'), owner)
    link('/proc/self/cwd', join(all, 'dir'), owner)
    link('all/link', join(here, 'chain'), BASE)
    const { result, records } = await host.call(['--cd', here, ...call.split(' ')], CONTAINER)
    const isMade = (await attributesBelow(here)) > 0
    const verdict = records.map((record) => record.verdict)
    if (follows) expect({ result, verdict }).toEqual({ result: 'ok', verdict: ['act'] })
    else expect({ ok: result === 'ok', isMade, verdict }).toEqual({ ok: false, isMade: false, verdict: ['continue'] })
  })
})

describe.skipIf(cannot)(withReason('links on a mount with nosymfollow are not followed', cannot), () => {
  const bar = 'mount --bind m m && mount -o remount,bind,nosymfollow m && cd m'
  test.each([
    { call: `mknod dir/n ${NODE}`, before: bar },
    { call: `setxattr link ${OPAQUE}`, before: bar },
    { call: `setxattr dir/f ${OPAQUE}`, before: bar },
    { call: `mknod m/self/cwd/n ${NODE}`, before: 'mount -t proc -o nosymfollow none m' },
    { call: `mknod m/$$/cwd/n ${NODE}`, before: 'mount -t proc -o nosymfollow none m' },
    { call: `setxattr m/thread-self/cwd/f ${OPAQUE}`, before: 'mount -t proc -o nosymfollow none m' },
  ])('$call', async ({ call, before }) => {
    const here = place()
    const mounted = directory(join(here, 'm'), BASE, 0o755)
    link('../f', join(mounted, 'link'), BASE)
    link('..', join(mounted, 'dir'), BASE)
    const script = `cd ${here} && ${before} && exec ${fixture('caller')} ${call}`
    const { stdout, stderr } = await host.run(CONTAINER, ['unshare', '--mount', 'sh', '-c', script])
    expect({ stdout, stderr }).toEqual({ stdout: '{"errno":"ELOOP"}\n', stderr: '' })
  })
})

/** What the mounts would cover: `run` itself, or the container, would find no program or library. */
const COVERED = ['bin', 'lib', 'sbin']
/** Mounts empty file systems below $1/x, while a user exchanges x with y, a link to /usr. */
const EXCHANGED = `mount --make-rprivate / || exit 1
for name in ${COVERED.join(' ')}; do mount -t tmpfs none "$1/x/$name"; done
nice -n -5 "$2" $3 "$1/x" "$1/y" & swapper=$!
for n in $(seq 20); do "$4" "$5" run true || echo "run $n failed"; done
kill $swapper && echo swapped`

const noRun = cannot ?? unable()
test.skipIf(noRun)(withReason('links exchanged with directories above mounts while run copies these', noRun), () => {
  // A mount below /tmp is not shown.
  const top = mkdtempSync('/srv/intercede-planted-')
  try {
    chownSync(top, OTHER, OTHER)
    for (const path of ['x', ...COVERED.map((name) => `x/${name}`)]) directory(join(top, path), OTHER, 0o755)
    link('../../usr', join(top, 'y'), OTHER)
    const words = ['sh', top, fixture('name-swapper'), `${OTHER}`, process.execPath, INTERCEDE]
    const script = ['--mount', 'sh', '-c', EXCHANGED, ...words]
    const { stdout, stderr } = spawnSync('unshare', script, { encoding: 'utf8', input: '' })
    expect({ stdout, stderr }).toEqual({ stdout: 'ready\nswapped\n', stderr: '' })
  } finally {
    rmSync(top, { recursive: true })
  }
})
