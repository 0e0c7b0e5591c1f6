import { expect, test } from 'vitest'
import { packName } from '../../../src/calls/packed.ts'
import type { ReasonCode } from '../../../src/calls/reasons.ts'
import { wantedKey } from '../../../src/memories/refusal-view.ts'
import type { KeyName } from '../../../src/policy/keys.ts'
import { keyNames } from '../../../src/policy/keys.ts'

const index = (name: KeyName): number => keyNames.indexOf(name)
const name = (text: string): readonly [number, number] => packName(text) as [number, number]

test.each<{ code: ReasonCode; a: number; b: number; wants: string | undefined }>([
  { code: 'deviceNotAllowed', a: 10, b: 200, wants: 'mknod.devices=c:10:200' },
  // The memory of the host: no container may have it.
  { code: 'deviceNotAllowed', a: 1, b: 1, wants: undefined },
  { code: 'keyOff', a: index('mknod'), b: 0, wants: 'mknod=true' },
  { code: 'keyOff', a: index('bpf.devices'), b: 0, wants: 'bpf.devices=true' },
  // Which file system it would be is not known.
  { code: 'keyOff', a: index('mount.allowed'), b: 0, wants: undefined },
  { code: 'keyOff', a: 999, b: 0, wants: undefined },
  { code: 'fileSystemNotAllowed', a: name('ext4')[0], b: name('ext4')[1], wants: 'mount.allowed=ext4' },
  // Names things of the host.
  { code: 'fileSystemNotAllowed', a: name('nfs')[0], b: name('nfs')[1], wants: undefined },
  { code: 'fileSystemNotAllowed', a: name('squashfs')[0], b: name('squashfs')[1], wants: 'mount.allowed=squashfs' },
  { code: 'fileSystemNotAllowed', a: name('a\u001b[2J')[0], b: name('a\u001b[2J')[1], wants: undefined },
  // More elements of the list than one.
  { code: 'fileSystemNotAllowed', a: name('x,btrfs')[0], b: name('x,btrfs')[1], wants: undefined },
  { code: 'fileSystemNotAllowed', a: name('')[0], b: name('')[1], wants: undefined },
  { code: 'priorityTooHigh', a: 60, b: 49, wants: 'sched_setscheduler.max_priority=60' },
  { code: 'priorityTooHigh', a: 100, b: 49, wants: undefined },
  { code: 'lacksCapability', a: 27, b: 0, wants: undefined },
  { code: 'done', a: 0, b: 0, wants: undefined },
])('$code $a $b wants $wants', ({ code, a, b, wants }) => {
  const found = wantedKey({ code, a, b })
  expect(found && `${found.key}=${found.value}`).toBe(wants)
})
