import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PathBytes } from '../../../../src/abi/brand.ts'
import { containsDotDot, splitParent } from '../../../../src/caller/paths/lookup-types.ts'

const bytes = (text: string): PathBytes => Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes
const text = (path: PathBytes): string => {
  expect(path.at(-1)).toBe(0)
  return Buffer.from(path.subarray(0, -1)).toString('latin1')
}

describe('splitParent() cuts as filename_create() does', () => {
  test.each([
    { path: 'n', parent: '.', name: 'n' },
    { path: 'a/n', parent: 'a/', name: 'n' },
    { path: '/n', parent: '/', name: 'n' },
    { path: '//a//n//', parent: '//a//', name: 'n//' },
    { path: 'n/', parent: '.', name: 'n/' },
    { path: 'a/.', parent: 'a/', name: '.' },
    { path: 'a/..', parent: 'a/', name: '..' },
    { path: '/', parent: '/', name: '.' },
    { path: '///', parent: '///', name: '.' },
    { path: '\xe9/\xff', parent: '\xe9/', name: '\xff' },
  ])('$path', ({ path, parent, name }) => {
    const cut = splitParent(bytes(path), new Uint8Array(4096))
    expect([text(cut.parent), text(cut.name)]).toEqual([parent, name])
  })

  test('parent and name together are the path, and the name has one component', () => {
    const component = fc.string({ unit: fc.constantFrom('a', '.', '\xe9', ' ', '/'), minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(component, (path) => {
        const cut = splitParent(bytes(path), new Uint8Array(4096))
        const [parent, name] = [text(cut.parent), text(cut.name)]
        if (/^\/+$/.test(path)) {
          expect([parent, name]).toEqual([path, '.'])
          return
        }
        const before = path.slice(0, path.length - name.length)
        expect([parent, before + name]).toEqual([before || '.', path])
        expect(name).toMatch(/^[^/]+\/*$/)
      }),
    )
  })
})

test.each([
  ['..', true],
  ['../a', true],
  ['a/..', true],
  ['a/../b', true],
  ['a/...', false],
  ['a..', false],
  ['..a/b', false],
  ['.a', false],
  ['./a/.', false],
])('leadsUp(%j) is %j', (path, up) => {
  expect(containsDotDot(Buffer.from(`${path}\0`) as Uint8Array as PathBytes)).toBe(up)
})
