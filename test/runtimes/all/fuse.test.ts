import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../../support/fixtures.ts'
import { Images } from '../../support/images.ts'
import { type Ended, ended, hasRuntime, run, sh, start, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const PROGRAMS = { ext4: 'fuse2fs', squashfs: 'squashfuse', ntfs: 'ntfs-3g', overlay: 'fuse-overlayfs' } as const
const TOOLS = [...Object.values(PROGRAMS), 'losetup', 'mkfs.ext4', 'mksquashfs', 'mkfs.ntfs', 'busybox'] as const
const cannot = unable() ?? missing(...TOOLS)
const runtimes = (['crun', 'runc'] as const).filter(hasRuntime)

let images: Images
let ext4 = ''
let squashfs = ''
/** What the container sees of the host, as /shared. */
const shared = mkdtempSync(join(tmpdir(), 'intercede-fuse-'))

beforeAll(() => {
  chmodSync(shared, 0o755)
  if (cannot) return
  images = new Images()
  ext4 = images.device('ext4')
  squashfs = images.device('squashfs')
  execFileSync('truncate', ['-s', '8M', join(shared, 'ntfs')])
  execFileSync('mkfs.ntfs', ['-q', '-F', join(shared, 'ntfs')], { stdio: 'ignore' })
  writeFileSync(join(shared, 'mount2'), readFileSync(fixture('mount-call', ['-static'])), { mode: 0o755 })
})
afterAll(() => {
  images?.[Symbol.dispose]()
  rmSync(shared, { recursive: true })
})

/** A program of the container, whatever the container says. */
function program(name: string, script: string): string {
  writeFileSync(join(shared, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return `/shared/${name}`
}

const options = (fuse: string, ...more: readonly string[]): string[] => [
  ...['-c', 'mount', '-c', `mount.fuse=${fuse}`, '--bind', `${shared}:/shared:ro`],
  ...[ext4, squashfs].flatMap((device) => ['--device', device]),
  ...more,
]

const mounting = (fuse: string, script: string, ...more: readonly string[]): Ended =>
  run([...options(fuse, ...more), ...sh(`ext4=${ext4} squashfs=${squashfs}; mkdir a; ${script}`)])

const ALL = Object.entries(PROGRAMS)
  .map((pair) => pair.join('='))
  .join(',')

/** What is mounted on a: its flags and its type. */
const LOOK = String.raw`sed -n 's/^.* \/root\/a \(\S*\) .*- \(\S*\) .*/\1 \2/p' /proc/self/mountinfo`
/** Unmounts it, and waits until no program is left; says which one is after all. */
const LEFT = `ps axo args | grep -E '^[^ ]*(${Object.values(PROGRAMS).join('|')}) '`
const OVER = `umount a; for n in 1 2 3 4 5 6 7 8 9; do ${LEFT} >/dev/null || break; sleep 0.1; done; ${LEFT}`

/** Processes of the host whose command line holds this text. */
const processesWith = (text: string): readonly string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
      } catch {
        return false
      }
    })

describe.skipIf(cannot).each(runtimes)(withReason('mount.fuse with %s', cannot), (runtime) => {
  const by = ['--runtime', runtime] as const

  test('every program serves a file; the flags hold; umount ends it', () => {
    const { stdout, stderr } = mounting(
      ALL,
      `mount -t ext4 $ext4 a && cat a/hello && stat -c %u:%g a/hello a/theirs && ${LOOK}; ${OVER}
       LIBMOUNT_FORCE_MOUNT2=always mount -t ext4 -o ro,nosuid,noexec,noatime $ext4 a && ${LOOK}; touch a/x 2>&1; ${OVER}
       busybox mount -t squashfs -o ro $squashfs a && cat a/hello && ${LOOK}; ${OVER}
       cp /shared/ntfs .; /shared/mount2 ntfs ntfs a && echo written >a/file && cat a/file && ${LOOK}; ${OVER}
       mkdir l u w; echo lower >l/file
       mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay a && cat a/file && echo up >a/up && cat u/up && ${LOOK}; ${OVER}`,
      ...by,
    )
    expect(stdout.trim().split('\n'), stderr).toEqual([
      ...['hello', '0:0', '1000:1000', 'rw,nosuid,nodev,relatime fuse.ext4'],
      'ro,nosuid,nodev,noexec,noatime fuse.ext4',
      expect.stringContaining('Read-only file system'),
      ...['hello', 'ro,nosuid,nodev,relatime fuse.squashfuse'],
      ...['written', expect.stringMatching(/^rw\S* fuse$/)],
      ...['lower', 'up', expect.stringMatching(/^rw\S* fuse.fuse-overlayfs$/)],
    ])
  })

  test('a program has all that one has which the container starts itself, and nothing more', () => {
    const spy = program(
      'spy',
      `out=/root/served; [ "$1" != own ] || out=/root/own
       { for name in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$name; done
         cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj /proc/self/personality; cat /proc/self/attr/current
         grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign)|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Cpus_allowed_list):' /proc/self/status
         cut -d' ' -f18,19,40,41 /proc/self/stat; readlink /proc/$$/cwd /proc/$$/root
         tr '\\0' '\\n' </proc/$$/environ | sort; } >$out 2>&1
       ls /proc/$$/fd >$out-fds; for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done | cut -d: -f1 >>$out-fds
       [ "$1" = own ] || exec fuse2fs "$@"`,
    )
    const { stdout, stderr } = mounting(
      `ext4=${spy}`,
      // The shell adds PWD to what it was given. The exec of runc has the umask of the container, whatever it is told.
      `[ ${runtime} = runc ] || umask 027; ulimit -n 1000; echo 200 >/proc/self/oom_score_adj
       env -u PWD ${spy} own | cat; mount -t ext4 $ext4 a
       diff own served; grep -c . served; grep -E '^(200|NoNewPrivs|Seccomp|Max open)' served | tr -s ' \t' ' '; paste own-fds served-fds`,
      ...by,
    )
    const [lines, ...seen] = stdout.trim().split('\n')
    expect(Number(lines), stdout + stderr).toBeGreaterThan(50)
    // 10 and 11 are the shell's own.
    const descriptors = ['0', '1', '10', '11', '2', 'pipe', 'pipe', 'pipe'].map((name) => `${name}\t${name}`)
    const some = ['Max open files 1000 1000 files ', '200', 'NoNewPrivs: 0', 'Seccomp: 2', 'Seccomp_filters: 1']
    expect(seen, stderr).toEqual([...some, ...descriptors])
  })
  test.each([
    {
      what: 'is missing',
      fuse: 'ext4=nothing',
      says: 'the image of the container lacks the FUSE program "nothing", which the policy names',
    },
    { what: 'is only named for the host', fuse: 'ext4=/no/such', says: /"such": .*never on the host/ },
    { what: 'fails', fuse: 'ext4=squashfuse', says: "This doesn't look like a squashfs image" },
    {
      what: 'ends without mounting',
      script: 'exit 0',
      says: 'the FUSE program ended without an error, and had not mounted anything on the target',
    },
    {
      what: 'says a lot, also to the terminal',
      script: String.raw`head -c 1000000 /dev/zero | tr '\0' x >&2; printf '\033[2Jlast words' >&2; exit 3`,
      says: /failed in the container: x{4082}\?\[2Jlast words\n(.*\n)*.*ended with status 3/,
    },
  ])('a program that $what', ({ what, fuse, script, says }) => {
    const named = fuse ?? `ext4=${program(`${what.replaceAll(/\W/g, '-')}`, script!)}`
    const { stdout, stderr } = mounting(
      named,
      'mount -t ext4 $ext4 a; ls a | wc -l; grep -c /root/a /proc/mounts',
      ...by,
    )
    expect(stdout.trim().split('\n')).toEqual(['0', '0'])
    expect(stderr).toMatch(says)
  })

  test('an image file: by a type that mount(8) does not know; else it wants a loop device, and run says what works', () => {
    const image = 'mkdir a; truncate -s 8M disk.img; mkfs.ext4 -q disk.img;'
    // No device is shown: mount(8) would try a loop device that is in use without end.
    const without = (fuse: string, script: string): Ended =>
      run(['-c', 'mount', '-c', `mount.fuse=${fuse}`, ...by, ...sh(`${image} ${script}`)])
    const named = without('image=fuse2fs', `mount -t image disk.img a && ls a && ${LOOK}; ${OVER}`)
    expect(named.stdout.trim().split('\n'), named.stderr).toEqual([
      'lost+found',
      expect.stringMatching(/^rw\S* fuse\.\S+$/),
    ])
    const known = without('ext4=fuse2fs', 'mount disk.img a')
    expect(known.stdout).toBe('')
    expect(known.stderr).toMatch(
      /failed to setup loop device.*\n(.*\n)*intercede: nobody asked .*mount -t image FILE DIRECTORY/,
    )
    const disks = run(['-c', 'mount', '-c', 'mount.allowed=ext4', ...by, ...sh(`${image} mount disk.img a`)])
    expect(disks.stderr).toMatch(/intercede: nobody asked .*losetup.* add --device; or .*mount.fuse=image=fuse2fs/)
    // A device was asked for, if in vain, or all went well: there is nothing to hint at.
    for (const script of ['mount -t ext4 /no/such a', 'true'])
      expect(without('ext4=fuse2fs', script).stderr).not.toContain('nobody asked')
  })

  test('a missing source is told as the kernel tells it', () => {
    const { stdout } = mounting(
      'ext4=fuse2fs',
      '/shared/mount2 ext4 /no/such a; /shared/mount2 ext4 $ext4 /no/such',
      ...by,
    )
    expect(stdout.trim().split('\n')).toEqual(['ENOENT', 'ENOENT'])
  })

  test('a program that stays in the foreground is taken as it is', () => {
    const stays = program('stays', 'exec fuse2fs -f "$@"')
    const { stdout, stderr } = mounting(
      `ext4=${stays}`,
      `mount -t ext4 $ext4 a && cat a/hello && ${LOOK}; ${OVER}`,
      ...by,
    )
    expect(stdout.trim().split('\n'), stderr).toEqual(['hello', 'rw,nosuid,nodev,relatime fuse.ext4'])
  })

  test('a program that stays there may go on to say something', () => {
    const says = program('says', 'fuse2fs -f "$@" & sleep 2; echo a word >&2; echo alive >/root/alive; wait')
    const { stdout, stderr } = mounting(
      `ext4=${says}`,
      `mount -t ext4 $ext4 a && for n in $(seq 50); do [ ! -e alive ] || break; sleep 0.1; done; cat alive; ${OVER}`,
      ...by,
    )
    expect(stdout.trim(), stderr).toBe('alive')
  })

  test('more programs than may be started at once: one waits, and the rest is told to come again', () => {
    const slow = program('slow', 'sleep 2; exec fuse2fs "$@"')
    const count =
      'mkdir b c d e f g h i; for at in a b c d e f g h i; do /shared/mount2 ext4 $ext4 $at >out-$at & done; wait; cat out-*'
    const { stdout, stderr } = mounting(`ext4=${slow}`, `${count}; grep -c fuse.ext4 /proc/mounts`, ...by)
    const lines = stdout.trim().split('\n')
    expect(lines.filter((line) => line === 'EAGAIN').length, stdout + stderr).toBeGreaterThanOrEqual(2)
    expect(Number(lines.at(-1)), stdout + stderr).toBeGreaterThanOrEqual(1)
  })

  test('a program that hangs is ended after 10 seconds', () => {
    const hangs = program('hangs', 'sleep 77 & sleep 88')
    const { stdout, stderr } = mounting(
      `ext4=${hangs}`,
      '/shared/mount2 ext4 $ext4 a; ps axo args | grep "^sleep"',
      ...by,
    )
    expect(stdout.trim()).toBe('ETIMEDOUT')
    expect(stderr).toContain('had not mounted after 10 seconds, and was ended')
  }, 20_000)

  test('a caller that is killed leaves no program and no mount', () => {
    const late = program('late', 'echo here >/root/here; fuse2fs "$@"; sleep 99')
    const { stdout, stderr } = mounting(
      `ext4=${late}`,
      `/shared/mount2 ext4 $ext4 a & until grep -q /root/a /proc/mounts; do sleep 0.05; done; kill -9 $!
       for n in 1 2 3 4 5 6 7 8 9; do grep -q /root/a /proc/mounts || break; sleep 0.2; done; grep /root/a /proc/mounts
       sleep 0.2; ps axo args | grep -E "^sleep 99|^[^ ]*fuse2fs "; cat here`,
      ...by,
    )
    expect(stdout.trim(), stderr).toBe('here')
  })

  test('programs end with their container', async () => {
    const name = `a${process.pid}${runtime}`
    const script = `mkdir ${name}; mount -t ext4 ${ext4} ${name} && cat ${name}/hello; sleep 1000`
    const child = await start([...options('ext4=fuse2fs', ...by), ...sh(script)])
    const servers = processesWith(`/root/${name}`)
    expect(servers).toHaveLength(1)
    const init = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${servers[0]}/status`, 'utf8'))?.[1]
    process.kill(Number(init), 'SIGKILL')
    expect(await ended(child)).toBe(137)
    expect(processesWith(`/root/${name}`)).toEqual([])
  })
})
