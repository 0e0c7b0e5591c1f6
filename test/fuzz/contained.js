// node contained.js OPTIONS: a container of `intercede run`, with its keeper and engine, as the JSON OPTIONS say. What the
// command line sums up, each record, is counted and told to the parent, and so is whatever is said of a fault.
import { interception } from '../../out/cli/run-policy.js'
import { exitGroup } from '../../out/kernel/process.js'
import { ociRuntimes } from '../../out/runtimes/known/index.js'
import { parseBind } from '../../out/runtimes/launch/binds.js'
import { launch } from '../../out/runtimes/launch/launch.js'

const TELL_MS = 500
const { config, runtime: wanted, ...options } = JSON.parse(process.argv[2])
const runtime = ociRuntimes.find(({ name }) => name === wanted)
const kinds = new Map()
const record = ({ arch, nr, verdict, errno, reason }) => {
  const kind = `${arch} ${nr} ${verdict} ${errno} ${reason}`
  kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
}
const tell = (message, then) => process.send(message, then)
const tally = () => ({ kinds: [...kinds] })
setInterval(() => tell(tally()), TELL_MS).unref()

const say = (said) => tell({ said })
const { hints: _, ...intercepted } = interception(config, {}, { record, say })
const devices = [...(intercepted.devices ?? []), ...options.devices]
// The attacking program is the first process of the container, which the attack looks for.
const binds = options.binds.map((text) => parseBind(text))
const status = await launch({ ...options, ...intercepted, runtime, binds, devices, say, bare: true }).catch(
  ({ message }) => {
    tell({ said: message })
    return 125
  },
)
tell(tally(), () => exitGroup(status))
