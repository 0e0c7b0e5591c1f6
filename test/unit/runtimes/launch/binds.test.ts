import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readBind } from '../../../../src/runtimes/launch/binds.ts'
import { findInit, installedInit, refuseOverInit } from '../../../../src/runtimes/launch/init.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-binds-'))
chmodSync(scratch, 0o755)
afterAll(() => rmSync(scratch, { recursive: true }))
const directory = join(scratch, 'd')
mkdirSync(directory, { mode: 0o755 })
const closed = join(scratch, 'closed')
mkdirSync(closed, { mode: 0o700 })
const file = join(scratch, 'f')
writeFileSync(file, '', { mode: 0o644 })

test.each([
  { text: directory, target: directory, isDirectory: true, readonly: false, idmapped: false },
  { text: `${file}:ro`, target: file, isDirectory: false, readonly: true, idmapped: false },
  { text: `${directory}:/x`, target: '/x', isDirectory: true, readonly: false, idmapped: false },
  { text: `${closed}:idmap`, target: closed, isDirectory: true, readonly: false, idmapped: true },
  { text: `${directory}:/x:ro:idmap`, target: '/x', isDirectory: true, readonly: true, idmapped: true },
  { text: `${directory}:/x:idmap,ro`, target: '/x', isDirectory: true, readonly: true, idmapped: true },
])('readBind($text)', ({ text, ...expected }) => {
  expect(readBind(text)).toEqual({ text, source: text.split(':')[0], ...expected })
})

test.each([
  { what: 'nothing', text: ':/x', says: /the form is PATH/ },
  { what: 'too much', text: `${directory}:/x:/y`, says: /the form is PATH/ },
  { what: 'an unknown option', text: `${directory}:rw`, says: /"rw" is neither an absolute path .* nor an option/ },
  { what: 'what is not there', text: `${directory}/no`, says: /there is no ".*\/no" on the host; make it first/ },
  { what: 'a device', text: '/dev/null', says: /is a device; use --device/ },
  {
    what: 'an idmapped directory of everybody',
    text: `${directory}:idmap`,
    says: /every user .* mode 0700, or add :ro/,
  },
  { what: 'an idmapped file of everybody', text: `${file}:idmap`, says: /every user of the host can reach it/ },
])('readBind() refuses $what', ({ text, says }) => {
  // Where the temporary directory itself is closed to others, nothing below is open to them.
  expect(() => readBind(text)).toThrow(says)
})

test('an init must be linked statically, and nothing may hide it', () => {
  expect(installedInit((name) => (name === 'docker-init' ? '/x/docker-init' : undefined))).toBe('/x/docker-init')
  expect(installedInit(() => undefined)).toBeUndefined()
  const bind = (target: string) => [{ ...readBind(directory), target }]
  expect(() => refuseOverInit(bind('/dev/'))).toThrow(/would hide the container's init.*--no-init/)
  expect(() => refuseOverInit(bind('/'))).toThrow(/would hide/)
  expect(() => refuseOverInit(bind('/dev/shm/x'))).not.toThrow()
})

test('a missing init names the package and the way without', () => {
  expect(() => findInit(() => undefined)).toThrow(
    /^Cannot start the container's init: no tini-static or docker-init found: apt-get install tini, or --no-init/,
  )
})
