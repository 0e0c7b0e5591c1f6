import { expect, test } from 'vitest'
import { histogramLines, labelled, metric } from '../../../src/reader/metrics.ts'

test.each([
  { what: 'a plain text', text: 'crun', shown: 'crun' },
  { what: 'a quote', text: 'a"b', shown: 'a\\"b' },
  { what: 'a backslash', text: 'a\\b', shown: 'a\\\\\\\\b' },
  { what: 'a newline, which would begin a series', text: 'a\nx 1', shown: 'a\\\\012x 1' },
  { what: 'an escape sequence', text: '\u001b[2J', shown: '\\\\033[2J' },
  { what: 'letters beyond ASCII', text: 'é', shown: '\\\\303\\\\251' },
])('labelled() shows $what', ({ text, shown }) => {
  expect(labelled({ id: text })).toBe(`{id="${shown}"}`)
})

test('a metric has its help, its type and a line for each series', () => {
  const text = metric('m_total', 'counter', 'Something.', [
    [labelled({ a: 'x' }), 1],
    ['', 0.5],
  ])
  expect(text).toBe('# HELP m_total Something.\n# TYPE m_total counter\nm_total{a="x"} 1\nm_total 0.5\n')
})

test('buckets of a histogram sum up, and the last one has all', () => {
  const text = histogramLines('h', 'a="x"', ['1', '2'], { buckets: [1, 0, 2], seconds: 7.5 })
  expect(text).toBe(
    'h_bucket{a="x",le="1"} 1\nh_bucket{a="x",le="2"} 1\nh_bucket{a="x",le="+Inf"} 3\nh_sum{a="x"} 7.5\nh_count{a="x"} 3\n',
  )
})
