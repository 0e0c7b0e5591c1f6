import { written } from './devices.ts'
import { keys } from './keys.ts'
import { type DeviceNames, isUnclaimed } from './refused-devices.ts'
import type { Settings } from './settings.ts'

/** Numbers of `mknod.devices` that nobody has now and any driver may get, each with what to do. */
export const unclaimedDevices = (settings: Settings, named: DeviceNames): readonly string[] =>
  [...keys['mknod.devices'].parse(settings.get('mknod.devices')?.text ?? '')]
    .filter((dev) => isUnclaimed(dev, named))
    .map(
      (dev) =>
        `mknod.devices: no driver has ${written(dev)} now, and the kernel may give it to any that is loaded later; ` +
        'load the driver that you mean first',
    )
