import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { both } from '../../support/both-sides.ts'
import { fixture, missing } from '../../support/fixtures.ts'
import { type Done, Host, mknodPolicy, until } from '../../support/host.ts'
import { withReason } from '../../support/skipped.ts'

const cannot = missing('gcc')
const MKNOD = `${fixture('caller')} --umask 027 mknod`
const APIS = [
  { api: 'mount(2)', force: 'always' },
  { api: 'the new mount API', force: 'never' },
]

let host: Host
beforeAll(async () => {
  host = await Host.start({
    ...mknodPolicy,
    setxattr: { allowed: new Set<string>(), read: false },
    mount: { allowed: new Set(['tmpfs']), fuse: new Map(), shift: true, nodev: true },
  })
})
afterAll(() => host?.close())

const mount = (force: string, options: string): string =>
  `export LIBMOUNT_FORCE_MOUNT2=${force} && mount -t tmpfs -o ${options} none /mnt && cd /mnt`

describe.skipIf(cannot).each(APIS)(withReason('a tmpfs that is served, by $api', cannot), ({ force }) => {
  test('is what root of the host would have: nodes open, and are moved, linked, removed, unmounted', async () => {
    const { native, contained } = await both(
      host,
      () => `${mount(force, 'size=1m,nr_inodes=20,mode=750')} && stat -f -c '%T %s %b %c' . && stat -c '%a %u:%g' . &&
        ${MKNOD} n 020666 1 3 && opens n && mv n m && ln m l && chown 5:6 m && chmod 604 m && touch -d @5 m &&
        stat -c '%F %t:%T %a %u:%g %h %Y' m && tar -c m l | tar -tv --numeric-owner | sed 's/ [0-9:-]* [0-9:]*  *[lm]/ &/' &&
        mkdir d && ${MKNOD} d/z 020666 1 5 && rm -r d && mv m d && rm d l && ls -A | wc -l &&
        (for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do : >f$i || break; done) 2>&1 | sed 's/.*: //' &&
        head -c 2m /dev/zero >big; cd / && umount /mnt && echo gone`,
    )
    const withoutNames = (text: string): string => text.replaceAll(/^.*: (?=No space|error writing)/gm, '')
    expect(withoutNames(contained.stderr)).toBe(withoutNames(native.stderr))
    expect(contained.stdout).toBe(native.stdout)
    expect(contained.stdout).toMatch(/^tmpfs 4096 256 20\n750 0:0\n\{"ok":true\}\nopens\n/)
    expect(contained.stdout).toMatch(/gone\n$/)
  })

  test('has the ids of the container in its options', async () => {
    const { native, contained } = await both(
      host,
      () => `${mount(force, 'uid=5,gid=7,mode=0700')} && stat -c '%a %u:%g' .`,
    )
    expect(contained).toEqual(native)
    expect(contained).toMatchObject({ status: 0, stdout: '700 5:7\n' })
  })

  test('takes an opaque mark, a read-only bind and a lazy unmount', async () => {
    const { native, contained } = await both(
      host,
      () => `${mount(force, 'size=1m')} && mkdir o && setfattr -n trusted.overlay.opaque -v y o &&
        mkdir b && mount --bind -o ro o b && ! touch b/x 2>/dev/null; umount b && cd / && umount -l /mnt && echo done`,
    )
    expect(contained).toEqual(native)
    expect(contained).toMatchObject({ status: 0, stdout: 'done\n' })
  })

  test('has no device that opens where the caller asks for nodev', async () => {
    const { native, contained } = await both(
      host,
      () => `${mount(force, 'nodev,nosuid,noexec,noatime')} && ${MKNOD} n 020666 1 3 && opens n && rm n &&
        mount -t proc none /proc; grep -o '/mnt tmpfs rw,.*noatime' /proc/self/mounts`,
    )
    expect(contained.stdout).toBe(native.stdout)
    expect(contained.stdout).toMatch(/^\{"ok":true\}\nPermission denied\n.*noatime/)
  })

  test.each(['noswap', 'usrquota', 'grpquota', 'usrquota_block_hardlimit=1m', 'strict_encoding', 'nonsense', 'size=x'])(
    'does not take %s: EINVAL, as the kernel says to a container',
    async (option) => {
      const script = `export LIBMOUNT_FORCE_MOUNT2=${force}; mount -t tmpfs -o ${option} none /mnt; echo $?`
      const { stdout } = await host.run(['--mounts', '--pidns'], ['unshare', '--mount', 'sh', '-c', script])
      expect(stdout).toBe('32\n')
    },
  )
})

/** Numbers as kstrtouint() and memparse() have them, and have them not. */
const NUMBERS = [
  ...[
    '',
    '0',
    '5',
    '+5',
    ' 5',
    '5 ',
    '-5',
    '++5',
    '+ 5',
    '05',
    '010',
    '+010',
    '08',
    '0x10',
    '0X1f',
    '+0x10',
    '0x',
    '0xg',
    'x10',
  ],
  ...[
    '5\n',
    '010\n',
    '5\n\n',
    '\n5',
    '\t5',
    '5.0',
    '5e0',
    '1e2',
    '0b11',
    '0o7',
    '1_0',
    '0x1_0',
    '٥',
    '65535',
    '4294967295',
  ],
  ...[
    '4294967296',
    '00000000000000000000005',
    '18446744073709551621',
    '99999999999999999999999',
    '5=3',
    '5k',
    '0x10k',
    'NaN',
    'Infinity',
  ],
]
const SIZES = [
  '4k',
  ' 4k',
  '4 k',
  '+4k',
  '0x1000',
  '010k',
  '4K',
  '1m1',
  '1m ',
  '4kk',
  '-4k',
  '4.5k',
  '1e6',
  '50%',
  '4k\n',
  '',
]
const OPTIONS = [
  ...NUMBERS.map((number) => `uid=${number}`),
  ...NUMBERS.map((number) => `mode=700,gid=${number}`),
  ...SIZES.map((size) => `size=${size},uid=1`),
  ...SIZES.map((size) => `nr_blocks=${size}`),
  ...NUMBERS.map((number) => `mode=${number}`),
  ...[
    'uid',
    'uid=5,uid=6',
    'uid=x,uid=6',
    'uid=6,uid=x',
    'UID=5',
    'uid =5',
    ' uid=5',
    'uid=5,,gid=6',
    ',uid=5,',
    'uid=5,6',
    'size=4k,5',
  ],
  ...['mpol=default', 'mpol=bind:0,0', 'mpol=interleave:0,0,uid=5', 'mpol=bind:0,uid=5', 'mpol=nonsense,0'],
  `${'uid=5,'.repeat(600)}gid=7`,
]

describe.skipIf(cannot)(withReason('the options of a tmpfs that is served', cannot), () => {
  test('are read as those of a native mount(2), number by number', async () => {
    const quoted = OPTIONS.map((option) => `'${option}'`).join(' ')
    const { native, contained } = await both(
      host,
      () => `for o in ${quoted}; do
        said=$(${fixture('call-steps')} mount s:none s:/mnt s:tmpfs 0 "s:$o")
        [ "$said" = ok ] && said="$(stat -c '%u:%g %a' /mnt) $(stat -f -c '%T %b' /mnt)" && umount /mnt
        printf '%s|%s\\n' "$(printf %.30s "$o" | tr '\\n' '~')" "$said"; done`,
    )
    expect(native.stdout).toMatch(/^uid=5\|5:0 1777 tmpfs \d+$/m)
    expect(native.stdout.match(/\|EINVAL$/gm)?.length).toBeGreaterThan(50)
    expect(contained.stdout).toBe(native.stdout)
  })
})

const contained = (script: string): Promise<Done> =>
  host.run(['--mounts', '--pidns'], ['unshare', '--mount', 'sh', '-c', script])

describe.skipIf(cannot)(withReason('a container that makes much of it', cannot), () => {
  const shared = (): number => Number(/^Shmem: +(\d+)/m.exec(readFileSync('/proc/meminfo', 'latin1'))![1]) / 1024
  const MOUNTS = 200

  test('has 200 of them with 1 MiB each while it lives, and none of the memory after it', {
    timeout: 120_000,
  }, async () => {
    const before = shared()
    const { stdout, stderr } = await contained(
      `mount -t tmpfs none /mnt && cd /mnt && for i in $(seq ${MOUNTS}); do
        mkdir $i && mount -t tmpfs none $i && head -c 1m /dev/zero >$i/f || exit 1; done
       ls */f | wc -l`,
    )
    expect({ stdout, stderr }).toEqual({ stdout: `${MOUNTS}\n`, stderr: '' })
    await until('the memory is free', () => shared() < before + MOUNTS / 2)
  })

  test('is bound by its own size', async () => {
    const { stdout } = await contained(
      'mount -t tmpfs -o size=64k none /mnt && head -c 1m /dev/zero >/mnt/f; stat -c %s /mnt/f',
    )
    expect(stdout).toBe('65536\n')
  })

  test('that races mknod with moves, lazy unmounts and unmounts leaves nothing busy', {
    timeout: 120_000,
  }, async () => {
    const made = join(host.directory, 'made')
    const { stdout } = await contained(
      `mount -t tmpfs none /mnt && cd /mnt && mkdir a b && mount --make-private /mnt
       (for i in $(seq 60); do ${MKNOD} a/n$i 020666 1 3; ${MKNOD} b/n$i 020666 1 3; done >${made}) &
       for i in $(seq 20); do
         mount -t tmpfs none a && mount --move a b && umount -l b; mount -t tmpfs none a; umount a || umount -l a; done
       wait; rm -rf a b; ls -A; cd /; umount /mnt && echo unmounted`,
    )
    expect(stdout).toBe('unmounted\n')
    expect(readFileSync(made, 'latin1')).toContain('{"ok":true}')
  })
})

describe.skipIf(cannot)(withReason('a tmpfs that is not served', cannot), () => {
  test.each([
    { who: 'a child user namespace', before: 'unshare --user --map-root-user --mount' },
    { who: 'another mount namespace of that', before: 'unshare --user --map-root-user --mount unshare --mount' },
  ])('of $who is mounted by the kernel alone', async ({ before }) => {
    const script = `mount -t tmpfs none /mnt && ${MKNOD} /mnt/n 020666 1 3 && umount /mnt && echo done`
    const { stdout } = await host.run(
      ['--mounts', '--pidns'],
      ['unshare', '--mount', ...before.split(' '), 'sh', '-c', script],
    )
    expect(stdout).toBe('{"errno":"EPERM"}\ndone\n')
  })
})
