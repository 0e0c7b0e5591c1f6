import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixture, missing, no32 } from '../../support/fixtures.ts'
import { besideLxcfs, hasRuntime, INTERCEDE, lacksLxcfs, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const noLxcfs = unable() ?? lacksLxcfs() ?? missing('musl-gcc', 'top')
const LIMIT = 128_974_848
const scratch = mkdtempSync(join(tmpdir(), 'intercede-sysinfo-'))
beforeAll(() => {
  chmodSync(scratch, 0o755)
  copyFileSync(fixture('sysinfo'), join(scratch, 'sysinfo64'))
  if (!no32) copyFileSync(fixture('sysinfo', ['-m32', '-static']), join(scratch, 'sysinfo32'))
})
afterAll(() => rmSync(scratch, { recursive: true }))

describe.skipIf(unable()).each(['crun', 'runc'] as const)(
  withReason('intercede run -c sysinfo --memory 123MiB, with %s', unable()),
  (runtime) => {
    const inside = (script: string): string => {
      const options = ['--runtime', runtime, '-c', 'sysinfo', '--memory', '123MiB', '--bind', scratch]
      const { stdout, stderr, status } = run([...options, ...sh(script)])
      expect([stderr, status]).toEqual(['', 0])
      return stdout
    }
    beforeEach(({ skip }) => {
      if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
    })

    test('busybox shows the limit and the age of the container', () => {
      const [free, , uptime] = inside('busybox free; sleep 1; busybox uptime').split('\n').slice(1)
      expect(free).toMatch(/^Mem: +125952/)
      expect(uptime).toMatch(/ up 0 min/)
      expect(125_952 * 1024).toBe(LIMIT)
    })

    test('the C library counts the pages of the container', () => {
      expect(Number(inside('getconf _PHYS_PAGES')) * 4096).toBe(LIMIT)
    })

    /** It reads /proc/meminfo, which this key does not change: docs/guide/sysinfo.md. */
    test('free of procps goes on showing the memory of the machine', () => {
      const total = /^MemTotal: +(\d+) kB/.exec(readFileSync('/proc/meminfo', 'utf8'))![1]
      expect(inside('free -b')).toMatch(new RegExp(`^Mem: +${1024 * Number(total)} `, 'm'))
    })

    test.skipIf(no32)(
      withReason('a static 32-bit program gets its own struct, and its stack stays whole', no32),
      () => {
        const [info64, info32] = inside(`${scratch}/sysinfo64; ${scratch}/sysinfo32`)
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as Readonly<Record<string, number>>)
        expect(info32).toMatchObject({ size: 64, intact: true, totalram: LIMIT, mem_unit: 1, procs: 3 })
        expect(info64).toMatchObject({ size: 112, intact: true, totalram: LIMIT, mem_unit: 1, procs: 3 })
        expect(info32!.freeram! + info32!.bufferram!).toBeLessThanOrEqual(LIMIT)
      },
    )
  },
)

/** Prints each figure from every source, as NAME VALUE..., in bytes. It first reads a file, for page cache. */
const FIGURES = `cat big >/dev/null
meminfo() { awk -v name="$1:" '$1 == name { print $2 * 1024 }' /proc/meminfo; }
echo total $(busybox free | awk '/^Mem/ { print $2 * 1024 }') $(free -b | awk '/^Mem/ { print $2 }') $(meminfo MemTotal)
echo used $(busybox free | awk '/^Mem/ { print $3 * 1024 }') $(free -b | awk '/^Mem/ { print $3 }')
echo free $(busybox free | awk '/^Mem/ { print $4 * 1024 }') $(free -b | awk '/^Mem/ { print $4 }') $(meminfo MemFree)
echo cache $(busybox free | awk '/^Mem/ { print $6 * 1024 }') $(free -b | awk '/^Mem/ { print $6 }') $(meminfo Cached)
echo top $(busybox top -b -n 1 | sed -n '1s/Mem: \\([0-9]*\\)K used, \\([0-9]*\\)K free.*/\\1 \\2/p' | awk '{ print ($1 + $2) * 1024 }') \\
  $(LC_ALL=C top -b -n 1 | awk '/^MiB Mem/ { print $4 * 1048576 }')
echo processors $(nproc) $(busybox nproc) $(getconf _NPROCESSORS_ONLN)
sleep 1
echo uptime $(awk '{ print $1 }' /proc/uptime) $(./sysinfo64 | sed 's/.*"uptime":\\([0-9]*\\).*/\\1/')
echo minutes $(busybox uptime | sed 's/.* up \\([0-9]*\\) min.*/\\1/') $(uptime | sed 's/.* up \\([0-9]*\\) min.*/\\1/')
./glibc; ./musl`

describe.skipIf(noLxcfs).each(['crun', 'runc'] as const)(withReason('beside lxcfs, with %s', noLxcfs), (runtime) => {
  const MIB = 1024 * 1024
  beforeAll(() => {
    copyFileSync(fixture('sysconf', ['-static']), join(scratch, 'glibc'))
    copyFileSync(fixture('sysconf', ['-static'], 'musl-gcc'), join(scratch, 'musl'))
    writeFileSync(join(scratch, 'big'), randomBytes(40 * MIB))
    // So that the container reads it from the disk, and pays for the cache.
    spawnSync('sh', ['-c', 'sync big && dd of=big if=big count=0 oflag=nocache conv=notrunc,fdatasync'], {
      cwd: scratch,
    })
  })

  const figures = (lines: readonly string[]): Record<string, readonly number[]> =>
    Object.fromEntries(
      lines.map((line) => {
        const [name, ...values] = line.split(' ')
        return [name, values.map(Number)]
      }),
    )
  /** Figures of memory move while they are asked for. */
  const near = (values: readonly number[] = []): boolean =>
    values.length > 1 && values.every((value) => Math.abs(value - values[0]!) < 8 * MIB)

  beforeEach(({ skip }) => {
    if (!hasRuntime(runtime)) skip(`${runtime} is not installed`)
  })

  test('free, top, uptime, nproc and two C libraries agree', () => {
    const options = ['--runtime', runtime, '-c', 'sysinfo', '--memory', '123MiB', '--bind', scratch]
    const words = [...options, ...sh(`cd ${scratch}; ${FIGURES}`)]
    const { stdout, stderr } = besideLxcfs(scratch, [process.execPath, INTERCEDE, 'run', ...words])
    if (process.env.DUMP) console.log(stdout, stderr)
    const lines = stdout.trim().split('\n')
    const [glibc, musl] = lines.splice(-2).map((line) => JSON.parse(line) as Record<string, number>)
    const { total, used, free, cache, top, processors, uptime, minutes } = figures(lines)
    expect(total, stderr).toEqual([LIMIT, LIMIT, LIMIT])
    expect(
      [used, free, cache, [...free!, glibc!.free, musl!.free]].map((each) => near(each as number[])),
      stdout,
    ).toEqual([true, true, true, true])
    expect(Math.max(...used!)).toBeLessThan(LIMIT / 2)
    expect(top!.map((value) => Math.abs(value - LIMIT) < MIB)).toEqual([true, true])
    expect(new Set([...processors!, glibc!.online, musl!.online]).size).toBe(1)
    expect(Math.abs(uptime![0]! - uptime![1]!)).toBeLessThan(2)
    expect(minutes).toEqual([0, 0])
    expect([glibc!.memory, musl!.memory]).toEqual([LIMIT, LIMIT])
  })

  test('a container starts without them if lxcfs has ended and its mount is still there', () => {
    const words = `"${process.execPath}" "${INTERCEDE}" run --runtime ${runtime} -c sysinfo -- grep -c lxcfs /proc/mounts`
    const script = `kill -9 $(cat pid); until [ "$(stat lxcfs/proc/meminfo 2>&1 | grep -c endpoint)" = 1 ]; do sleep 0.1; done; ${words}`
    expect(besideLxcfs(scratch, ['sh', '-c', script])).toMatchObject({ status: 1, stdout: '0\n' })
  })
})
