import { expect, test } from 'vitest'
import { payloadOf } from '../../../src/runtimes/inspect.ts'
import { monitorName, monitorPath } from '../../../src/runtimes/lxc.ts'

test.each([
  { cmdline: '[lxc monitor] /var/lib/lxc web', name: 'web' },
  { cmdline: '[lxc monitor] /srv/my containers web\0\0\0', name: 'web' },
  { cmdline: 'lxc-start\0-F\0-n\0web\0', name: 'web' },
  { cmdline: 'lxc-start\0-nweb\0-F\0', name: 'web' },
  { cmdline: 'lxc-start\0--name=web\0', name: 'web' },
  { cmdline: 'lxc-start\0--name\0web\0', name: 'web' },
  { cmdline: `[lxc monitor] / ${'x'.repeat(300)}`, name: 'x'.repeat(255) },
  { cmdline: 'python3\0monitor.py\0', name: undefined },
  { cmdline: '', name: undefined },
])('monitorName($cmdline) is $name', ({ cmdline, name }) => {
  expect(monitorName(cmdline)).toBe(name)
})

test.each([
  { cmdline: '[lxc monitor] /var/lib/lxc web', path: '/var/lib/lxc' },
  { cmdline: '[lxc monitor] /srv/my containers web\0\0\0', path: '/srv/my containers' },
  { cmdline: 'lxc-start\0-F\0-n\0web\0', path: '/var/lib/lxc' },
  { cmdline: 'lxc-start\0-P\0/srv/c\0-n\0web\0', path: '/srv/c' },
  { cmdline: 'lxc-start\0--lxcpath=/srv/c\0-n\0web\0', path: '/srv/c' },
])('monitorPath($cmdline) is $path', ({ cmdline, path }) => {
  expect(monitorPath(cmdline)).toBe(path)
})

test.each([
  { path: '/lxc.payload.web', group: '/lxc.payload.web' },
  { path: '/lxc.payload.web/init.scope', group: '/lxc.payload.web' },
  { path: '/lxc.payload.web/lxc.payload.web/x', group: '/lxc.payload.web' },
  { path: '/a/b/lxc.payload/c', group: '/a/b/lxc.payload' },
  { path: '/user.slice/web', group: '/user.slice/web' },
  { path: '/', group: '/' },
])('payloadOf($path) is $group', ({ path, group }) => {
  expect(payloadOf(path)).toBe(group)
})
