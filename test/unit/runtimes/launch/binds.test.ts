import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { openBind, parseBind } from '../../../../src/runtimes/launch/binds.ts'
import { findInit, installedInit, refuseOverInit } from '../../../../src/runtimes/launch/init.ts'
import { withReason } from '../../../support/skipped.ts'

const scratch = mkdtempSync(join(tmpdir(), 'intercede-binds-'))
chmodSync(scratch, 0o755)
afterAll(() => rmSync(scratch, { recursive: true }))
const directory = join(scratch, 'd')
mkdirSync(directory, { mode: 0o755 })
const closed = join(scratch, 'closed')
mkdirSync(closed, { mode: 0o700 })
const inner = join(closed, 'inner')
mkdirSync(inner, { mode: 0o755 })
const file = join(scratch, 'f')
writeFileSync(file, '', { mode: 0o644 })
symlinkSync(closed, join(scratch, 'link'))

test.each([
  { text: directory, target: directory, readonly: false, idmapped: false },
  { text: `${file}:ro`, target: file, readonly: true, idmapped: false },
  { text: `${directory}:/x`, target: '/x', readonly: false, idmapped: false },
  { text: `${inner}:idmap`, target: inner, readonly: false, idmapped: true },
  { text: `${directory}:/x:ro:idmap`, target: '/x', readonly: true, idmapped: true },
  { text: `${directory}:/x:idmap,ro`, target: '/x', readonly: true, idmapped: true },
  { text: '/proc:/mnt:ro', target: '/mnt', source: '/proc', readonly: true, idmapped: false },
  { text: `${directory}:/dev/shm`, target: '/dev/shm', readonly: false, idmapped: false },
])('parseBind($text)', ({ text, ...expected }) => {
  expect(parseBind(text)).toEqual({ text, source: text.split(':')[0], ...expected })
})

test.each([
  { what: 'an empty text', text: '', says: /the form is PATH/ },
  { what: 'nothing', text: ':/x', says: /the form is PATH/ },
  { what: 'too much', text: `${directory}:/x:/y`, says: /the form is PATH/ },
  { what: 'an option that is said twice', text: `${directory}:/x:ro:ro`, says: /the form is PATH/ },
  { what: 'an unknown option', text: `${directory}:rw`, says: /"rw" is neither an absolute path .* nor an option/ },
  {
    what: 'the procfs',
    text: '/proc',
    says: /mounts its own "\/proc" over it; name another path, such as --bind "\/proc:\/mnt"/,
  },
  { what: 'a place that is hidden', text: `${directory}:/x/../sys/fs/cgroup`, says: /mounts its own "\/sys" over it/ },
])('parseBind() refuses $what', ({ text, says }) => {
  expect(() => parseBind(text)).toThrow(says)
})

test.each([
  { what: 'what is not there', text: `${directory}/no`, says: /there is no ".*\/no" on the host; make it first/ },
  { what: 'what is below a file', text: `${file}/no`, says: /there is no ".*\/no" on the host; make it first/ },
  { what: 'a device', text: '/dev/null', says: /is a device; use --device/ },
  {
    what: 'an idmapped directory of everybody',
    text: `${directory}:idmap`,
    says: /users of the host other than root .* mode 0700: install -d -m 700 .*, or add :ro/,
  },
  {
    what: 'an idmapped file of everybody',
    text: `${file}:idmap`,
    says: /users of the host other than root can reach it/,
  },
  { what: 'an idmapped directory over a link', text: `${scratch}/link/inner:idmap`, says: /use \/.*closed\/inner, or/ },
])('openBind() refuses $what', ({ text, says }) => {
  // Where the temporary directory itself is closed to others, nothing below is open to them.
  expect(() => openBind(parseBind(text))).toThrow(says)
})

const notRoot = process.geteuid?.() === 0 ? undefined : 'only root owns what only root can reach'
test.skipIf(notRoot)(withReason('openBind() opens what lies below a closed directory', notRoot), () => {
  for (const { text, isDirectory } of [
    { text: `${inner}:idmap`, isDirectory: true },
    { text: `${directory}:ro:idmap`, isDirectory: true },
    { text: file, isDirectory: false },
  ]) {
    const bind = openBind(parseBind(text))
    using tree = bind.tree
    expect([bind.isDirectory, tree.path, tree.stat().isDirectory()]).toEqual([isDirectory, bind.source, isDirectory])
  }
})

test('an init must be linked statically, and nothing may hide it', () => {
  expect(installedInit((name) => (name === 'docker-init' ? '/x/docker-init' : undefined))).toBe('/x/docker-init')
  expect(installedInit(() => undefined)).toBeUndefined()
  const bind = (target: string) => [{ ...parseBind(directory), target }]
  expect(() => refuseOverInit(bind('/dev/'))).toThrow(/would hide the container's init.*--no-init/)
  expect(() => refuseOverInit(bind('/'))).toThrow(/would hide/)
  expect(() => refuseOverInit(bind('/dev/shm/x'))).not.toThrow()
})

test('a missing init names the package and the way without', () => {
  expect(() => findInit(() => undefined)).toThrow(
    /^Cannot start the container's init: no tini-static or docker-init found: apt-get install tini, or --no-init/,
  )
})
