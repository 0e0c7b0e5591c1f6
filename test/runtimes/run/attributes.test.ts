import { describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { type Ended, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const absent = unable() ?? missing('setfattr', 'getfattr')
const LISTED = 'setxattr.allowed=security.NTACL,trusted.glusterfs.*'

const inside = (keys: readonly string[], script: string): Ended =>
  run([...keys.flatMap((key) => ['-c', key]), ...sh(script)])

describe.skipIf(absent)(withReason('attributes by name in intercede run', absent), () => {
  test.each([
    { name: 'trusted.glusterfs.x', shown: 'trusted.gluste...' },
    { name: 'security.NTACL', shown: 'security.NTACL' },
  ])('setfattr -n $name fails without the key, works with it, and the reason names it', ({ name, shown }) => {
    const set = `touch /root/f && setfattr -n ${name} -v 'a value' /root/f && setfattr -x ${name} /root/f && echo removed`
    const without = inside(['setxattr'], set)
    expect([without.status === 0, without.stdout]).toEqual([false, ''])
    expect(inside(['setxattr', LISTED], set)).toMatchObject({ status: 0, stdout: 'removed\n', stderr: '' })
    const { stderr } = inside(['setxattr', 'setxattr.read'], `touch /root/f; setfattr -x ${name} /root/f`)
    expect(stderr).toContain(
      `removexattr left to the kernel: the policy does not list the attribute of this call: remove "${shown}"`,
    )
  })

  test('tar packs and unpacks them, and those of users, and a container without setxattr.read reads no trusted.*', () => {
    const script = `mkdir /root/from && cd /root/from && for i in $(seq 200); do : >$i; done && setfattr -n user.name -v value * &&
    setfattr -n security.NTACL -v acl * && setfattr -n trusted.glusterfs.x -v gluster * &&
    tar -c --xattrs --xattrs-include='*' -f ../all.tar . && mkdir ../to && cd ../to && tar -x --xattrs --xattrs-include='*' -f ../all.tar &&
    getfattr --absolute-names -d -m - -- * | sort | uniq -c | grep = | sed 's/^ *//'`
    expect(inside(['setxattr', LISTED, 'setxattr.read'], script)).toMatchObject({
      stdout: '200 security.NTACL="acl"\n200 trusted.glusterfs.x="gluster"\n200 user.name="value"\n',
    })
    expect(inside(['setxattr', LISTED], script)).toMatchObject({
      stdout: '200 security.NTACL="acl"\n200 user.name="value"\n',
    })
  })
})

const noSamba = absent ?? missing('samba-tool')
const SETUP = '/usr/share/samba/setup'
/** Samba's ids begin at 3,000,000 otherwise, and `run` maps 65,536. */
const PROVISION = `cp -r ${SETUP} /root/setup && sed -i 's/^lowerBound: .*/lowerBound: 30000/' /root/setup/idmap_init.ldif &&
mount --bind /root/setup ${SETUP} && mkdir /root/dc && samba-tool domain provision --realm=EXAMPLE.TEST --domain=EXAMPLE \\
  --adminpass=Passw0rd%long --server-role=dc --dns-backend=NONE --host-name=dc --host-ip=127.0.0.1 --targetdir=/root/dc &&
getfattr --absolute-names -d -m security.NTACL /root/dc/state/sysvol`

test.skipIf(noSamba)(
  withReason('samba-tool makes a domain controller with security.NTACL, and fails without', noSamba),
  { timeout: 300_000 },
  () => {
    const { status, stdout } = inside(['setxattr', 'setxattr.allowed=security.NTACL'], PROVISION)
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^security\.NTACL=/m)])
    expect(inside(['setxattr'], PROVISION)).toMatchObject({
      status: 255,
      stderr: expect.stringContaining('set_nt_acl'),
    })
  },
)
