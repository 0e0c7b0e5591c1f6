import { describe, expect, test } from 'vitest'
import type { Dev } from '../../../src/abi/brand.ts'
import { makedev } from '../../../src/abi/stat.ts'
import { parseConfig } from '../../../src/policy/config.ts'
import { harmless } from '../../../src/policy/devices.ts'
import { unclaimedDevices } from '../../../src/policy/ineffective.ts'
import { givenByName, givenByNumber, isUnclaimed } from '../../../src/policy/refused-devices.ts'
import { resolve } from '../../../src/policy/resolve.ts'
import { parsePolicy, settle } from '../../../src/policy/settings.ts'

const KEY = 'security.syscalls.intercept.mknod.devices'

describe('a device by its number', () => {
  test.each([
    ...['1:1', '1:2', '1:4', '1:6', '1:11', '1:12', '2:0', '3:255', '4:0', '4:64', '5:3', '5:64', '5:255', '7:0'],
    ...['9:0', '10:1', '10:61', '10:130', '10:134', '10:135', '10:137', '10:144', '10:203', '10:223', '10:224'],
    ...['10:231', '10:234', '10:236', '10:239', '10:240', '10:242', '11:0', '13:64', '21:0', '29:0', '57:0', '86:0'],
    ...['89:1', '90:0', '97:0', '151:0', '153:0', '162:0', '166:0', '171:0', '180:96', '188:0', '189:3', '199:0'],
    ...['202:0', '204:64', '205:0', '206:0', '216:0', '221:0', '227:1', '229:0', '256:0'],
  ])('c:%s is refused, and the error says why', (number) => {
    expect(() => parsePolicy([['mknod.devices', `c:${number}`]])).toThrow(`"c:${number}" would give the container `)
  })

  test.each([
    ...['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2', '10:183', '10:196', '10:200', '10:228', '10:229'],
    ...[
      '10:232',
      '10:237',
      '10:238',
      '10:241',
      '81:0',
      '108:0',
      '116:0',
      '180:0',
      '195:255',
      '203:0',
      '226:128',
      '231:192',
    ],
  ])('c:%s is the decision of the administrator', (number) => {
    const [maj = 0, min = 0] = number.split(':').map(Number)
    expect(givenByNumber(maj, min)).toBeUndefined()
  })

  test('what is made without being listed is not among them', () => {
    for (const dev of harmless) expect(givenByName(dev, () => ['tty', 'mem'])).toBeUndefined()
  })
})

describe('a device by the name that its number has now', () => {
  const DEV = makedev(240, 3)
  const text = 'c:240:3'

  test.each([
    ...[
      'hidraw',
      'usbmon',
      'watchdog',
      'watchdog0',
      'rtc',
      'ptp',
      'hpilo',
      'gpiochip',
      'mei',
      'mei0',
      'tpm',
      'tpmrm',
      'nvme-generic',
    ],
    ...['nvme', 'bsg', 'media', 'cec', 'btrfs-control', 'cpu_dma_latency', 'uio', 'i2c-dev', 'ttyUSB', 'ttyGS', 'tty'],
    ...['xen/privcmd', 'dax', 'ndctl', 'ipmidev', 'device-mapper', 'ubi0', 'mtd', 'uhid', 'firewire'],
  ])('%s is refused, whatever else it is called', (name) => {
    const named = (): readonly string[] => ['harmless', name]
    expect(() => parsePolicy([['mknod.devices', text]], named)).toThrow(
      `${KEY} has ${text}, which is ${JSON.stringify(name)} on this host: it would give the container`,
    )
  })

  test.each([
    'tun',
    'net/tun',
    'kvm',
    'fuse',
    'vhost-net',
    'vhost-vsock',
    'loop-control',
    'drm',
    'nvidia-uvm',
    'hw_random',
  ])('%s is the decision of the administrator', (name) => expect(givenByName(DEV, () => [name])).toBeUndefined())

  test('also while mknod is off, in each profile of a configuration, and where the metadata of a container lists it', () => {
    const named = (dev: Dev): readonly string[] => (dev === DEV ? ['hidraw'] : [])
    const yaml = (list: string): string => `profiles: { a: { mknod.devices: '${list}' } }`
    expect(() => parseConfig(yaml(text), 'x.yaml', named)).toThrow('which is "hidraw"')
    const config = parseConfig(yaml('c:240:4'), 'x.yaml', named)
    expect(() => resolve(config, { metadata: `mknod.devices=${text}` }, named)).toThrow('which is "hidraw"')
    expect(() => resolve(config, { metadata: 'profile=a' }, () => ['hidraw'])).toThrow('which is "hidraw"')
  })

  test('an annotation that lists one is ignored with a note, in words', () => {
    const config = parseConfig('default: { mknod: true }\nannotations: { raise: [mknod.devices] }', 'x.yaml')
    const { policy, notes } = resolve(config, { annotations: { [KEY]: text } }, () => ['watchdog'])
    expect(policy.mknod?.devices).toEqual(new Set(harmless))
    expect(notes).toMatchObject([{ key: KEY, why: expect.stringContaining('which is "watchdog"') }])
  })
})

describe('a device number that nobody has', () => {
  test.each([
    { maj: 240, min: 0, is: true },
    { maj: 400, min: 7, is: true },
    { maj: 10, min: 258, is: true },
    { maj: 10, min: 60, is: true },
    { maj: 10, min: 200, is: false },
    { maj: 195, min: 0, is: false },
  ])('$maj:$min may be given to any driver: $is', ({ maj, min, is }) => {
    expect(isUnclaimed(makedev(maj, min), () => [])).toBe(is)
    expect(isUnclaimed(makedev(maj, min), () => ['somebody'])).toBe(false)
  })

  test('is named, with what to do', () => {
    const settings = settle([['mknod.devices', 'c:10:200,c:240:0']])
    expect(unclaimedDevices(settings, () => [])).toEqual([
      'mknod.devices: no driver has c:240:0 now, and the kernel may give it to any that is loaded later; load the driver that you mean first',
    ])
  })
})
