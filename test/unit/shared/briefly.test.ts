import { expect, test } from 'vitest'
import { briefly } from '../../../src/shared/texts.ts'

test.each([
  ['', '""'],
  ['a"b', '"a\\"b"'],
  ['x'.repeat(100), `"${'x'.repeat(100)}"`],
  ['x'.repeat(102_400), `"${'x'.repeat(100)}"... (102400 characters)`],
])('briefly() quotes a word', (word, shown) => {
  expect(briefly(word)).toBe(shown)
})
