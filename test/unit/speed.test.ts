import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const readme = read('README.md').replaceAll(/\s+/g, ' ')
const performance = read('docs/guide/performance.md')

/** Who answers, how often intercede's time that is, and the median. */
type Row = readonly [who: string, multiple: number, median: number]

/** The table of what was measured: `native` and `C notifier` stand for any row that begins so. */
function table(title: string): (who: string) => Row {
  const [, text = ''] = performance.split(`## ${title}\n`)
  const [lines = ''] = text.split('\n## ')
  const rows = [...lines.matchAll(/^\| ([^|]+) \| ([\d.]*)(?: x)? \| ([\d.]+) /gm)].map(
    ([, who, multiple, median]): Row => [who!, Number(multiple), Number(median)],
  )
  return (who) => rows.find(([name]) => name === who) ?? ['', Number.NaN, Number.NaN]
}

/** A range in README.md, as "costs 1.4 to 1.6 times". */
function range(text: RegExp): readonly [number, number] {
  const [, from, to] = text.exec(readme) ?? []
  return [Number(from), Number(to)]
}

const passed = table('passed on: mknod of a device that is not allowed')
const sysinfo = table('sysinfo')
const eight = table('eight processes at once: mknod of 1:3 on tmpfs')
const nodes = ['tmpfs', 'ext4'].map((where) => table(`mknod of 1:3 on ${where}`))

describe('README gives ranges of speed within which docs/guide/performance.md is', () => {
  test.each<{ what: string; said: RegExp; measured: readonly number[] }>([
    { what: 'passed on', said: /passed on costs (\S+) to (\S+) times/, measured: [passed('C notifier')[1]] },
    {
      what: 'mknod',
      said: /`mknod` (\S+) to (\S+) times/,
      measured: nodes.map((row) => row('C notifier, mknod')[1]),
    },
    {
      what: 'mknod beyond the native call',
      said: /which is (\S+) to (\S+) us more/,
      measured: nodes.map((row) => row('intercede')[2] - row('native, host root')[2]),
    },
    {
      what: 'eight processes',
      said: /get (\S+) to (\S+) of the throughput/,
      measured: [eight('intercede')[2] / eight('C notifier, mknod, 4 threads')[2]],
    },
    { what: 'sysinfo', said: /`sysinfo` costs (\S+) to (\S+) times/, measured: [sysinfo('C notifier, sysinfo')[1]] },
    {
      what: 'sysinfo beside the loop',
      said: /but (\S+) to (\S+) times the bare/,
      measured: [sysinfo('C notifier')[1]],
    },
  ])('$what', ({ said, measured }) => {
    const [from, to] = range(said)
    for (const figure of measured) {
      expect(Math.round(figure * 10) / 10).toBeGreaterThanOrEqual(from)
      expect(Math.round(figure * 10) / 10).toBeLessThanOrEqual(to)
    }
  })
})
