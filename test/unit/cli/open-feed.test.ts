import { expect, test } from 'vitest'
import { unmistakable } from '../../../src/cli/open-feed.ts'
import type { ContainerView } from '../../../src/reader/container-fields.ts'

test.each([
  ['build', 'build'],
  ["it's", `'it'"'"'s'`],
  ['--unset=mknod', '-- --unset=mknod'],
])('unmistakable() of the container %j is no option, and one word of a shell: %s', (id, word) => {
  expect(unmistakable([{ id, state: 'served' } as ContainerView], id)).toBe(word)
})
