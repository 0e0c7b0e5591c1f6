import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { both } from '../../support/both-sides.ts'
import { missing } from '../../support/fixtures.ts'
import { BASE, type Done, execute, Host, mknodPolicy, until } from '../../support/host.ts'
import { endEngine } from '../../support/mounters.ts'
import { withReason } from '../../support/skipped.ts'

/** A tmpfs that was made for the container is changed as root of the host changes one; every other file system is not. */

const cannot = missing('gcc') ?? (process.arch === 'x64' ? undefined : 'its numbers are those of x86_64')
const APIS = [
  { api: 'mount(2)', force: 'always' },
  { api: 'the new mount API', force: 'never' },
]

let host: Host
/** A tmpfs of the host that the container sees, as a volume, or as /run of a runtime that shares it. */
let theirs: string
beforeAll(async () => {
  host = await Host.start({
    ...mknodPolicy,
    mount: { allowed: new Set(['tmpfs']), fuse: new Map(), shift: true, nodev: true },
  })
  theirs = join(host.directory, 'theirs')
  mkdirSync(theirs)
  await execute('mount', ['-t', 'tmpfs', '-o', `size=1m,uid=${BASE},gid=${BASE},mode=755`, 'theirs', theirs])
})
afterAll(async () => {
  if (theirs) await execute('umount', [theirs])
  host?.close()
})

const contained = (script: string): Promise<Done> =>
  host.run(['--mounts', '--pidns'], ['unshare', '--mount', 'sh', '-c', script])
/** What a change of the file system can show. */
const SHOWS = `shows() { stat -f -c '%b %c' /mnt; stat -c '%a %u:%g' /mnt; if touch /mnt/t 2>/dev/null; then echo writable; else echo read-only; fi; }`
/** The errno is what counts: what a driver says of a change is in the log of the host's kernel. */
const SAYS = `says() { if said=$("$@" 2>&1); then echo ok; else case $said in
  *busy*) echo EBUSY;; *bad?option* | *Too?* | *nknown* | *Bad?* | *nvalid*) echo EINVAL;; *ermission*) echo EPERM;; *) echo "$said";; esac; fi; }`
const script = (force: string, text: string): string =>
  `export LIBMOUNT_FORCE_MOUNT2=${force}; ${SHOWS}; ${SAYS}; ${text}`

describe.skipIf(cannot).each(APIS)(withReason('remount of a tmpfs that is served, by $api', cannot), ({ force }) => {
  test.each([
    { what: 'size', change: 'says mount -o remount,size=2m /mnt; shows' },
    { what: 'nr_inodes', change: 'says mount -o remount,nr_inodes=7 /mnt; shows' },
    { what: 'both, without a limit', change: 'says mount -o remount,size=0,nr_inodes=0 /mnt; shows' },
    { what: 'ro and rw', change: 'says mount -o remount,ro /mnt; shows; says mount -o remount,rw /mnt; shows' },
    { what: 'ro while a file is written', change: 'exec 7>/mnt/open; says mount -o remount,ro /mnt; exec 7>&-; shows' },
    {
      what: 'less than is in use',
      change: 'head -c 512k /dev/zero >/mnt/f; says mount -o remount,size=64k /mnt; shows',
    },
    {
      what: 'fewer inodes than are in use',
      change: 'touch /mnt/1 /mnt/2; says mount -o remount,nr_inodes=2 /mnt; shows',
    },
    { what: 'an unknown option', change: 'says mount -o remount,nonsense=3 /mnt; shows' },
    { what: 'a wrong value', change: 'says mount -o remount,size=x /mnt; shows' },
    { what: 'an owner, which stays', change: 'says mount -o remount,uid=0,gid=7 /mnt; shows' },
    { what: 'an owner that is none', change: 'says mount -o remount,uid=x /mnt; shows' },
    {
      what: 'options of the mount',
      change: 'says mount -o remount,nodev,noexec,noatime /mnt; grep -o "/mnt [^ ]* - " /proc/self/mountinfo',
    },
    { what: 'a directory of it', change: 'mkdir /mnt/d; says mount -o remount,size=2m none /mnt/d; shows' },
    {
      what: 'a copy of the mount',
      change: 'mount --bind /mnt /media && says mount -o remount,size=2m /media; umount /media; shows',
    },
    {
      what: 'a copy in another mount namespace',
      change: `unshare --mount sh -c 'mount -o remount,size=2m /mnt'; shows`,
    },
    { what: 'twice', change: 'says mount -o remount,size=2m /mnt; says mount -o remount,size=3m /mnt; shows' },
    { what: 'and unmounted at once', change: 'says mount -o remount,size=2m /mnt; says umount /mnt' },
  ])('$what: as root of the host', async ({ change }) => {
    const text = script(
      force,
      `mount -t tmpfs -o size=1m,nr_inodes=100 none /mnt && mount -t proc none /proc && cd / && ${change}`,
    )
    const { native, contained: ours } = await both(host, () => text)
    expect(ours).toEqual(native)
    expect(ours.stdout).not.toBe('')
  })
})

describe.skipIf(cannot)(withReason('a file system that intercede did not make for the container', cannot), () => {
  const said = (text: string): Promise<Done> => contained(script('never', text))

  test.each(APIS)('a tmpfs of the host: EPERM by $api, and it stays as it is', async ({ force }) => {
    const { stdout } = await contained(
      script(force, `says mount -o remount,ro,size=2m none ${theirs}; touch ${theirs}/x && stat -f -c %b ${theirs}`),
    )
    expect(stdout).toBe('EPERM\n256\n')
  })

  test('a tmpfs of a child user namespace is its own to change', async () => {
    const change = 'mount -t tmpfs -o size=1m none /mnt && says mount -o remount,size=2m none /mnt; stat -f -c %b /mnt'
    const { stdout } = await said(`unshare --user --map-root-user --mount sh -c '${SAYS}; ${change}'`)
    expect(stdout).toBe('ok\n512\n')
  })

  test('a child user namespace may not change what its container mounted', async () => {
    const { stdout } = await said(`mount -t tmpfs -o size=1m none /mnt &&
      unshare --user --map-root-user --mount sh -c '${SAYS}; says mount -o remount,size=2m none /mnt'; stat -f -c %b /mnt`)
    expect(stdout).toMatch(/^EPERM\n256\n$/)
  })

  test('nor may who has no CAP_SYS_ADMIN', async () => {
    const { stdout } = await said(`mount -t tmpfs -o size=1m none /mnt &&
      setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin sh -c '${SAYS}; says mount -o remount,size=2m none /mnt'; stat -f -c %b /mnt`)
    expect(stdout).toBe('EPERM\n256\n')
  })
})

/** Calls fspick and fsconfig of one context, and says of each how it ended. */
const CONTEXT = `import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *words):
    ctypes.set_errno(0)
    result = libc.syscall(*words)
    print(name, 'ok' if result >= 0 else errno.errorcode[ctypes.get_errno()])
    return result
fd = call('pick', 433, -100, b'/mnt', 0)
def say(key, value=None): call(key, 431, fd, 0 if value is None else 1, key.encode(), value, 0)
def change(): call('change', 431, fd, 7, None, None, 0); os.system('stat -f -c %b /mnt; grep -o " /mnt .*" /proc/self/mountinfo | grep -o "r[ow],.*size" | cut -c1-3')
say('size', b'2m'); say('ro'); change(); change()
say('size', b'3m'); say('rw'); change()
call('create', 431, fd, 6, None, None, 0); call('mount', 432, fd, 0, 0)
os.system('head -c 1m /dev/zero >/mnt/f'); say('size', b'64k'); change()
say('size', b'4m'); change()
call('flags', 433, -100, b'/mnt', 64); call('root', 433, -100, b'/mnt/..', 0); os.mkdir('/mnt/d'); call('below', 433, -100, b'/mnt/d', 0)
call('nothing', 433, -100, b'', 0); call('absent', 433, -100, b'/mnt/none', 0)
print(os.path.exists('/mnt/f')); os.close(fd); call('umount', 166, b'/mnt', 0)`

describe.skipIf(cannot)(withReason('contexts of fspick(2)', cannot), () => {
  test('end as those of root of the host', async () => {
    const { native, contained: ours } = await both(
      host,
      () =>
        `mount -t tmpfs -o size=1m none /mnt && mount -t proc none /proc && cd / && python3 -u -c '${CONTEXT.replaceAll("'", `'"'"'`)}'`,
    )
    expect(ours).toEqual(native)
    expect(ours.stdout).toMatch(/^pick ok\nsize ok\nro ok\nchange ok\n512\n/)
  })
})

describe.skipIf(cannot)(withReason('a tmpfs that is changed', cannot), () => {
  test('is known to the next engine', async () => {
    const go = join(host.directory, 'go')
    const waits = `until [ -e ${go} ]; do sleep 0.05; done`
    const done = contained(
      script(
        'never',
        `mount -t tmpfs -o size=1m none /mnt; touch ${host.directory}/mounted; ${waits}; says mount -o remount,size=2m /mnt; stat -f -c %b /mnt`,
      ),
    )
    await until('it is mounted', () => existsSync(join(host.directory, 'mounted')))
    await endEngine(host)
    writeFileSync(go, '')
    expect((await done).stdout).toBe('ok\n512\n')
  })

  test('leaves no memory when it is gone, though a context of it was opened', async () => {
    const megabytes = (): number => Number(/^Shmem: +(\d+)/m.exec(readFileSync('/proc/meminfo', 'latin1'))![1]) / 1024
    const before = megabytes()
    const { stdout } = await contained(
      script(
        'never',
        `mount -t tmpfs none /mnt && head -c 128m /dev/zero >/mnt/f && says mount -o remount,size=1g /mnt; says umount /mnt; exec sleep 3`,
      ),
    )
    expect(stdout).toBe('ok\nok\n')
    await until('the memory is free', () => megabytes() < before + 64)
  })
})
