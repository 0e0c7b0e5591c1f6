import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { execute } from '../../support/host.ts'
import { CLI, Machine } from '../../support/machine.ts'
import { Podman, USUAL } from '../../support/podman.ts'
import { unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = unable()

/** Files of /etc and a record of ids of one's own, in a mount namespace of its own. */
const OWN = `set -e
mount --make-rprivate /
mkdir -p "$SCRATCH/etc" && mount -t tmpfs none "$SCRATCH/etc" && mkdir "$SCRATCH/etc/upper" "$SCRATCH/etc/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$SCRATCH/etc/upper,workdir=$SCRATCH/etc/work" none /etc
mount -t tmpfs none /var/lib
subids() { printf "$1" >/etc/subuid; printf "$1" >/etc/subgid; }
run() { "${process.execPath}" "${CLI}" run -- awk '{ print $2 }' /proc/self/uid_map || echo "status $?"; }
record=/var/lib/intercede/run-ids
`

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'intercede-ids-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const script = (text: string) =>
  execute('unshare', ['--mount', 'bash', '-c', OWN + text], { env: { ...process.env, SCRATCH: directory } })

describe.skipIf(cannot)(withReason('ids of run', cannot), () => {
  test('a line of containers that comes or goes does not move them', async () => {
    const { stdout, stderr } = await script(
      `subids ''; run; cat $record; subids 'containers:1000000000:1000000\\n'; run; subids ''; run`,
    )
    expect(stdout.trim().split('\n'), stderr).toEqual([
      '2000000000',
      '2000000000 2000000000',
      '2000000000',
      '2000000000',
    ])
    expect(stderr).toBe('')
  })

  test('a line of intercede moves them, which is said once, and they stay when it goes', async () => {
    const { stdout, stderr } = await script(
      `subids ''; run; subids 'intercede:700000000:65536\\n'; run; run; subids ''; run`,
    )
    expect(stdout.trim().split('\n'), stderr).toEqual(['2000000000', '700000000', '700000000', '700000000'])
    expect(stderr).toMatch(
      /^intercede: the ids of containers start at 700000000, before at 2000000000, [^\n]*chown\)\n$/,
    )
  })

  test('ids that another owner has got since are refused, with what to do', async () => {
    const { stdout, stderr } = await script(`subids ''; run; subids 'containers:1999999999:1000000\\n'; run`)
    expect(stdout.trim().split('\n')).toEqual(['2000000000', 'status 125'])
    expect(stderr).toMatch(
      /^intercede: Cannot use the ids from 2000000000 [^\n]*"containers" has them in \/etc\/subuid; /,
    )
  })

  test('runs that begin at once agree, and leave nothing but the record', async () => {
    const { stdout, stderr } = await script(`subids ''; for n in 1 2 3; do run & done; wait; ls /var/lib/intercede`)
    expect(stdout.trim().split('\n'), stderr).toEqual(['2000000000', '2000000000', '2000000000', 'run-ids'])
  })

  test('the record is for all to read, whatever mask the caller has', async () => {
    const { stdout, stderr } = await script(`subids ''; umask 077; run; stat -c %a /var/lib/intercede $record`)
    expect(stdout, stderr).toBe('2000000000\n755\n644\n')
  })

  test('a record that cannot be written is said, and keeps nobody from running', async () => {
    const { stdout, stderr } = await script(`subids ''; mount -o remount,ro /var/lib; run`)
    expect(stdout).toBe('2000000000\n')
    expect(stderr).toMatch(/^intercede: the ids of containers could not be recorded, [^\n]*EROFS/)
  })

  test('a record that is none is an error', async () => {
    const { stdout, stderr } = await script(`subids ''; mkdir /var/lib/intercede; echo mine >$record; run`)
    expect(stdout).toBe('status 125\n')
    expect(stderr).toMatch(/^intercede: Cannot read \/var\/lib\/intercede\/run-ids: [^\n]*; correct or remove it\n$/)
  })
})

const without = cannot ?? missing('podman', 'crun', 'busybox')

test.skipIf(without)(withReason('run and podman --userns=auto have no id in common', without), async () => {
  const machine = new Machine()
  const podman = await Podman.start(machine)
  try {
    const map = ['cat', '/proc/self/uid_map']
    const theirs = await podman.run('run', ...USUAL, '-i', '--userns=auto', 'test', ...map)
    const ours = await machine.run(process.execPath, CLI, 'run', '--', ...map)
    const [[, one = 0, oneCount = 0], [, other = 0, otherCount = 0]] = [theirs, ours].map(({ stdout }) =>
      stdout.trim().split(/\s+/).map(Number),
    ) as [number[], number[]]
    expect(oneCount * otherCount, theirs.stderr + ours.stderr).toBeGreaterThan(0)
    expect(one + oneCount <= other || other + otherCount <= one, `${theirs.stdout}${ours.stdout}`).toBe(true)
  } finally {
    await podman.close()
    await machine.close()
  }
})
