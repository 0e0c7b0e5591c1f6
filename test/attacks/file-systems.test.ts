// A file system that is not of a device names things of the host, or reserves them: fs/super.c mount_capable() says EPERM.
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CallRecord } from '../../src/calls/record.ts'
import { fixture, missing } from '../support/fixtures.ts'
import { type Done, Host } from '../support/host.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc')
const known = readFileSync('/proc/filesystems', 'latin1')
const types = ['devtmpfs', 'debugfs', 'tracefs', 'securityfs', 'pstore', 'fusectl'].filter((type) =>
  known.includes(`nodev\t${type}\n`),
)
/** The policy that an administrator can no longer write. */
const allowed = new Set([...types, 'hugetlbfs', 'ext4', 'erofs'])

let host: Host
beforeAll(async () => {
  if (!cannot) host = await Host.start({ mount: { allowed, fuse: new Map(), shift: false, nodev: false } })
})
afterAll(() => host?.close())

async function contained(script: string): Promise<Done & { readonly records: readonly CallRecord[] }> {
  host.drain()
  const before = host.records.length
  const all = `mount -t tmpfs none /mnt && cd /mnt && mkdir m && ${script}`
  const done = await host.run(['--mounts'], ['unshare', '--mount', 'sh', '-c', all])
  await host.settle(before)
  return { ...done, records: host.records.slice(before).filter(({ errno }) => errno !== 0) }
}

const call = (...args: readonly string[]): string => [fixture('mount-call'), ...args].join(' ')
const refusal = (errno: number, reason: string) => [expect.objectContaining({ errno, reason })]

describe.skipIf(cannot)(withReason("file systems that show what is the host's own", cannot), () => {
  test.each(types)('%s is not mounted by mount(2)', async (type) => {
    const { stdout, records } = await contained(`${call(type, 'none', 'm')}; ls m`)
    expect(stdout).toBe('EPERM\n')
    expect(records).toEqual(refusal(1, 'namesHost'))
  })

  test.each(types)('%s is not mounted by fsopen(2) and its family', async (type) => {
    const { stdout, stderr, records } = await contained(`mount -t ${type} none m; ls m`)
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: expect.stringContaining('permission denied') })
    expect(records).toEqual(refusal(1, 'namesHost'))
  })

  test('a source that is the name of flash memory is none, whatever the type', async () => {
    // linux/drivers/mtd/mtdsuper.c get_tree_mtd()
    const { stdout, records } = await contained(
      `ln -s /dev/loop0 mtd0; for name in mtd0 mtd:boot; do ${call('ext4', '$name', 'm')}; done`,
    )
    expect(stdout).toBe('EPERM\nEPERM\n')
    expect(records).toEqual([...refusal(1, 'namesHost'), ...refusal(1, 'namesHost')])
  })

  test('nor is one among the options, which the kernel takes if the call names none', async () => {
    const { stdout, records } = await contained(`${fixture('call-steps')} mount null s:m s:ext4 1 s:source=mtd0`)
    expect(stdout).toBe('EPERM\n')
    expect(records).toEqual(refusal(1, 'namesHost'))
  })

  test.each([
    { option: 'fsid=boot', type: 'erofs' },
    { option: 'domain_id=boot', type: 'erofs' },
  ])('$option names what is cached on the host', async ({ option, type }) => {
    const { stdout, records } = await contained(call(type, 'none', 'm', option))
    expect(stdout).toBe('EINVAL\n')
    expect(records).toEqual(refusal(22, 'namesHost'))
  })
})

describe.skipIf(cannot)(withReason('file systems that reserve', cannot), () => {
  const unknown = known.includes('\thugetlbfs\n') ? undefined : 'this kernel has no hugetlbfs'
  test.skipIf(unknown)(withReason('huge pages of the host are not mounted', unknown), async () => {
    const both = [call('hugetlbfs', 'none', 'm', 'min_size=2M'), 'mount -t hugetlbfs -o min_size=2M none m']
    const { stdout, records } = await contained(both.join('; '))
    expect(stdout).toBe('EINVAL\n')
    expect(records).toEqual([...refusal(22, 'reservesPages'), ...refusal(22, 'reservesPages')])
    expect(await contained(`${call('hugetlbfs', 'none', 'm', 'size=2M')} && stat -f -c %T m`)).toMatchObject({
      stdout: 'hugetlbfs\n',
    })
  })
})
