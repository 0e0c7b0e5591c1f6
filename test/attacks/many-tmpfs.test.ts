// What a container does with the tmpfs that are served to it is its own affair: memory, mounts, descriptors.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixture, missing } from '../support/fixtures.ts'
import { MemoryGroup, unlimitable } from '../support/groups.ts'
import { BASE, type Done, Host, mknodPolicy, until } from '../support/host.ts'
import { Images, nodeFor } from '../support/images.ts'
import { mounters } from '../support/mounters.ts'
import { withReason } from '../support/skipped.ts'

const cannot = missing('gcc', 'losetup', 'mkfs.ext4') ?? unlimitable()
const MIB = 1024 * 1024
const MKNOD = `${fixture('caller')} --umask 022 mknod`

let host: Host
let images: Images | undefined
beforeAll(async () => {
  if (cannot) return
  images = new Images()
  host = await Host.start({
    ...mknodPolicy,
    mount: { allowed: new Set(['ext4', 'tmpfs']), fuse: new Map(), shift: false, nodev: true },
  })
})
afterAll(() => {
  host?.close()
  images?.[Symbol.dispose]()
})

const contained = (script: string, more: readonly string[] = []): Promise<Done> =>
  host.run(
    ['--mounts', '--pidns', ...more],
    ['unshare', '--mount', 'bash', '--norc', '-c', `export LIBMOUNT_FORCE_MOUNT2=always; ${script}`],
  )

/** What is charged to a group, in MiB. */
function usedBy({ innermost }: MemoryGroup): number {
  const file = ['memory.usage_in_bytes', 'memory.current'].map((name) => join(innermost, name)).find(existsSync)!
  return Number(readFileSync(file, 'latin1')) / MIB
}
/** What the kernel needed for its files and descriptors, in KiB. */
function kernelMemoryOf({ innermost }: MemoryGroup): number {
  const v1 = join(innermost, 'memory.kmem.usage_in_bytes')
  if (existsSync(v1)) return Number(readFileSync(v1, 'latin1')) / 1024
  return Number(/^kernel (\d+)$/m.exec(readFileSync(join(innermost, 'memory.stat'), 'latin1'))?.[1]) / 1024
}
/**
 * How much more it is than now, whenever that is asked. The kernel frees what the first programs needed a little later, so the
 * least that was used is what to begin with.
 */
function chargedFrom(group: MemoryGroup): () => number {
  let least = kernelMemoryOf(group)
  return () => {
    const used = kernelMemoryOf(group)
    least = Math.min(least, used)
    return used - least
  }
}
const WAIT = 'sub await { select(undef, undef, undef, 0.02) until -e $_[0] } '
/** Calls in a loop by perl, which says what it got, and keeps that until the file `go` is there. */
const repeat = (count: number, call: string, go: string, begin = '/', ready = '/dev/null'): string =>
  `perl -e '${WAIT}open($r, ">", "${ready}"); await("${begin}"); $ext4 = "ext4"; for (1..${count}) { (${call}) < 0 ? $e{$!}++ : $ok++ } print join(" ", "ok $ok", %e), "\n"; close(STDOUT); await("${go}")'`
const MKNODAT = process.arch === 'arm64' ? 33 : 259
const FSOPEN = 430
const CLOSE = process.arch === 'arm64' ? 57 : 3
const MOUNT = process.arch === 'arm64' ? 40 : 165
const MS_BIND = 4096
const fdsOf = (pid: number | string): number => readdirSync(`/proc/${pid}/fd`).length
const mountsOf = (pid: number | string): number => readFileSync(`/proc/${pid}/mountinfo`, 'latin1').split('\n').length
/** What we hold: descriptors of the engine, and mounts of our processes. Mounters end when they have been idle for long. */
function held(): { readonly fds: number; readonly mounts: readonly number[] } {
  const ours = [host.enginePid, process.pid, ...mounters(host.enginePid)]
  return { fds: fdsOf(host.enginePid), mounts: ours.map(mountsOf) }
}

/** Threads and mounters come and go, and others mount on this machine; but what stays of 1,000 would be 1,000. */
const FEW = 100
const isAsBefore = (before: ReturnType<typeof held>, now: ReturnType<typeof held>): boolean =>
  now.fds < before.fds + FEW && Math.max(...now.mounts) < Math.max(...before.mounts) + FEW

/** The container's mounts must be usable after it. */
const stillServes = async (): Promise<void> => {
  const { stdout } = await contained(
    `mount -t tmpfs none /mnt && ${MKNOD} /mnt/n 020666 1 3 && umount /mnt && echo served`,
  )
  expect(stdout).toBe('{"ok":true}\nserved\n')
}

describe.skipIf(cannot)(withReason('a container that makes much of served tmpfs', cannot), { timeout: 120_000 }, () => {
  test('mounts 1,000 and fills them: by its own memory, which is free after it, and nothing of ours stays', async () => {
    await stillServes()
    const before = held()
    using group = new MemoryGroup(512 * MIB)
    const [ready, go] = ['ready', 'go'].map((name) => join(host.directory, name))
    const done = contained(
      `mount -t tmpfs none /mnt && cd /mnt && mkdir $(seq 1000) && for i in $(seq 1000); do
        mount -t tmpfs -o size=64k none $i && head -c 64k /dev/zero >$i/f || exit 1; done
       ls -d */f | wc -l; : >${ready}; until [ -e ${go} ]; do sleep 0.05; done`,
      ['--cgroup', group.innermost],
    )
    await until('all are mounted', () => existsSync(ready!), 100)
    expect(usedBy(group)).toBeGreaterThan(62)
    writeFileSync(go!, '')
    expect(await done).toEqual({ status: 0, stdout: '1000\n', stderr: '' })
    await until('its memory is free', () => usedBy(group) < 16)
    await stillServes()
    await until('nothing of it is held', () => {
      const now = held()
      return isAsBefore(before, now)
    })
  })

  test('fills more than its memory: it is its own processes that end', async () => {
    using group = new MemoryGroup(32 * MIB)
    const { stdout } = await contained(
      `mount -t tmpfs -o size=1g none /mnt && (head -c 256m /dev/zero >/mnt/f; true); echo "$? $(($(stat -c %s /mnt/f) < 33554432))"`,
      ['--cgroup', group.innermost],
    )
    expect(['0 1\n', '137 1\n', '']).toContain(stdout)
    await until('its memory is free', () => usedBy(group) < 16)
    await stillServes()
  })

  test.each([
    {
      what: '1,200 nodes',
      call: `syscall(${MKNODAT}, -100, "n" x 200 . $_ . $$, 020666, 0x103)`,
      counts: [1200],
      least: 100,
    },
    { what: 'contexts by two processes at once', call: `syscall(${FSOPEN}, $ext4, 0)`, counts: [200, 200], least: 100 },
  ])('makes $what: its own memory is charged for them, after what is little', async ({ call, counts, least }) => {
    await stillServes()
    using group = new MemoryGroup(512 * MIB)
    const file = (name: string): string => join(host.directory, `${counts.length}-${name}`)
    const [begin, go] = [file('begin'), file('go')]
    const ready = counts.map((_, at) => file(`ready-${at}`))
    const loops = counts.map((count, at) => `${repeat(count, call, go, begin, ready[at])} &`)
    const done = contained(`mount -t tmpfs none /mnt && cd /mnt && { ${loops.join('\n')} wait; }`, [
      '--cgroup',
      group.innermost,
    ])
    await until('all wait', () => ready.every(existsSync))
    const charged = chargedFrom(group)
    writeFileSync(begin, '')
    await until('it has all that it can get', () => charged() > least, 100)
    writeFileSync(go, '')
    expect(await done).toMatchObject({ status: 0, stdout: counts.map((count) => `ok ${count}\n`).join('') })
  })

  test('makes 300 mounts with other access times: its own memory is charged for those that are made for them', async () => {
    const device = nodeFor(images!.device('ext4'), host.directory, BASE)
    const call = `$c = syscall(${FSOPEN}, $ext4, 1), syscall(431, $c, 1, $source, $device, 0), syscall(431, $c, 6, 0, 0, 0),
      $t = syscall(432, $c, 1, 0), syscall(442, $t, $empty, 0x1000, $noatime, 32),
      $m = syscall(429, $t, $empty, -100, "m/$_", 4), syscall(${CLOSE}, $c), syscall(${CLOSE}, $t), $m`
    using group = new MemoryGroup(512 * MIB)
    const [begin, go, ready] = ['times-begin', 'times-go', 'times-ready'].map((name) => join(host.directory, name))
    const words = `$source = "source"; $device = "${device}"; $empty = ""; $noatime = pack("Q4", 0x10, 0x70, 0, 0); mkdir "m"; mkdir "m/$_" for 1..300;`
    const done = contained(
      `mount -t tmpfs none /mnt && cd /mnt && ${repeat(300, call, go!, begin, ready).replace("perl -e '", `perl -e '${words} `)}`,
      ['--cgroup', group.innermost],
    )
    await until('it waits', () => existsSync(ready!))
    const charged = chargedFrom(group)
    writeFileSync(begin!, '')
    await until('it is charged', () => charged() > 50, 100)
    writeFileSync(go!, '')
    expect(await done).toMatchObject({ status: 0, stdout: 'ok 300\n' })
  })

  test('gets the same nodes after those that we are charged for: its ids, groups, umask, rights and errors count', async () => {
    const as = 'setpriv --reuid=5 --regid=6 --groups=7 --inh-caps=+mknod --ambient-caps=+mknod'
    const make = `${fixture('caller')} mknod $1/$d/n 020666 1 3`
    const { stdout, stderr } = await contained(
      `mount -t tmpfs none /mnt && cd /mnt && chmod 755 .
       series() { mkdir $1 $1/own $1/sgid $1/closed; chown 5:6 $1/own; chmod 700 $1/own; chown 0:7 $1/sgid; chmod 2770 $1/sgid
         for d in own sgid closed; do (umask 027; ${as} ${make}; ${as} ${make}; ${make.replace('/n ', '/root ')}); done
         (cd $1; stat -c '%n %t:%T %a %u:%g' */*); }
       series before; echo ---; mkdir many; ${repeat(1024, `syscall(${MKNODAT}, -100, "many/$_", 020666, 0x103)`, '/')}; echo ---
       series after`,
    )
    const [before, many, after] = stdout.split('---\n')
    expect(stderr).toBe('')
    expect(before).toMatch(/own\/n 1:3 640 5:6\n(.*\n)*sgid\/n 1:3 640 5:7\n/)
    expect([many, after]).toEqual(['ok 1024\n', before])
  })

  // The kernel copies what is mounted to every mount that shares with the place: 500 of them, and 40 mounts, are 8 MiB.
  test.each([
    { what: 'tmpfs', make: `syscall(${MOUNT}, $tmpfs, "/mnt/$_", $tmpfs, 0, 0)`, as: 'mkdir "/mnt/$_"' },
    { what: 'consoles', make: `syscall(${MKNODAT}, -100, "/mnt/$_", 020600, 0x501)`, as: '1' },
  ])('lets the kernel copy its $what to 500 places: its own memory is charged for the copies', async ({ make, as }) => {
    await stillServes()
    using group = new MemoryGroup(512 * MIB)
    const [ready, begin] = ['copied-ready', 'copied-begin'].map((name) => join(host.directory, name))
    const share = `$top = "/mnt"; for (1..500) { mkdir "/mnt/p"; mkdir "/mnt/p/$_"; syscall(${MOUNT}, $top, "/mnt/p/$_", 0, ${MS_BIND}, 0) and die $! }`
    const copies = `$tmpfs = "tmpfs"; for (1..40) { ${as}; (${make}) < 0 ? $e{$!}++ : $ok++ } print join(" ", "ok $ok", %e), "\n"; close(STDOUT); sleep 1 while -e "${begin}"`
    const done = contained(
      `mount -t tmpfs none /mnt && mkdir /mnt/p && mount -t tmpfs none /mnt/p && mount --make-private /mnt/p && mount --make-shared /mnt
       perl -e '${share}' && : >${ready}; until [ -e ${begin} ]; do sleep 0.02; done; perl -e '${copies}'`,
      ['--cgroup', group.innermost],
    )
    await until('the places share', () => existsSync(ready!))
    const before = kernelMemoryOf(group)
    writeFileSync(begin!, '')
    await until('the copies are there', () => kernelMemoryOf(group) - before > 4 * 1024, 30)
    for (const path of [ready, begin]) rmSync(path!)
    expect(await done).toMatchObject({ status: 0, stdout: 'ok 40\n', stderr: '' })
  })

  test('shares them among its mount namespaces, and leaves none', async () => {
    const before = held()
    const peer = 'unshare --mount --propagation unchanged sleep 1000 & peers="$peers $!"; '
    const { stdout } = await contained(
      `mount -t proc none /proc && mount -t tmpfs none /mnt && mount --make-shared /mnt && cd /mnt && mkdir $(seq 20)
       ${peer.repeat(10)} for p in $peers; do until [ "$(cat /proc/$p/comm)" = sleep ]; do sleep 0.02; done; done
       for i in $(seq 20); do mount -t tmpfs none $i && mount --make-shared $i && echo x >$i/f; done
       for p in $peers; do cat /proc/$p/root/mnt/*/f; done | wc -l
       for i in $(seq 20); do umount $i || umount -l $i; done; kill $peers; ls */f 2>/dev/null | wc -l`,
    )
    expect(stdout).toBe('200\n0\n')
    await stillServes()
    expect(isAsBefore(before, held())).toBe(true)
  })

  test('races mknod and remount against moves, lazy unmounts and unmounts: nothing is busy after it', async () => {
    const [made, changed] = ['made', 'changed'].map((name) => join(host.directory, name))
    const { stdout } = await contained(
      `mount -t tmpfs none /mnt && mount --make-private /mnt && cd /mnt && mkdir a b
       (for i in $(seq 150); do ${MKNOD} a/n$i 020666 1 3; ${MKNOD} b/n$i 020666 1 3; done) >${made} 2>&1 &
       (for i in $(seq 150); do mount -o remount,size=\${i}m none a && echo ok; LIBMOUNT_FORCE_MOUNT2=never mount -o remount,size=\${i}m none b && echo ok; done) >${changed} 2>/dev/null &
       (for i in $(seq 150); do head -c 1m /dev/zero >a/f; head -c 1m /dev/zero >b/f; done) >/dev/null 2>&1 &
       for i in $(seq 60); do
         mount -t tmpfs none a && mount --move a b; umount -l b; mount -t tmpfs none a; umount a || umount -l a; done 2>/dev/null
       wait; umount -l a b 2>/dev/null; rm -rf a b; ls -A; cd /; umount /mnt && echo unmounted`,
    )
    expect(stdout).toBe('unmounted\n')
    expect(readFileSync(made!, 'latin1')).toContain('{"ok":true}')
    expect(readFileSync(changed!, 'latin1')).toContain('ok')
    await stillServes()
  })
})
