import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixture } from '../../support/fixtures.ts'
import { hasRuntime, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const LIMIT = 128_974_848
const scratch = mkdtempSync(join(tmpdir(), 'intercede-sysinfo-'))
beforeAll(() => {
  chmodSync(scratch, 0o755)
  copyFileSync(fixture('sysinfo'), join(scratch, 'sysinfo64'))
  if (process.arch === 'x64') copyFileSync(fixture('sysinfo', ['-m32', '-static']), join(scratch, 'sysinfo32'))
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

    const foreign = process.arch === 'x64' ? undefined : `this machine is ${process.arch}`
    test.skipIf(foreign)(
      withReason('a static 32-bit program gets its own struct, and its stack stays whole', foreign),
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
