import * as v from 'valibot'
import { type Cap, capabilities } from '../abi/credentials.ts'
import { type ErrnoName, errnos } from '../abi/errno.ts'
import { RT_PRIORITY_MAX, SCHED } from '../abi/sched.ts'
import { reasonCodes } from '../calls/reasons.ts'
import { limitValue } from '../policy/resource-limits.ts'
import { mapOf } from '../policy/yaml-file.ts'

const oneOf = <const T extends readonly string[]>(words: T) => v.picklist(words, words.join(', '))
const number = (from: number, to: number) => {
  const allowed = `a whole number from ${from} to ${to}`
  return v.pipe(
    v.union([v.string(), v.number()], allowed),
    v.transform((text) => (/^\d+$/.test(String(text)) ? Number(text) : Number.NaN)),
    v.check((value) => value >= from && value <= to, allowed),
  )
}
const MOST = 0xffff_ffff
const word = number(0, MOST)
const yesOrNo = v.pipe(
  v.union([v.boolean(), oneOf(['true', 'false'])], 'true or false'),
  v.transform((text) => String(text) === 'true'),
)
const matching = (form: RegExp, allowed: string) => v.pipe(v.string(allowed), v.regex(form, allowed))
/** A name of a capability, as it is or after CAP_. */
const cap = v.pipe(
  v.picklist(
    [...capabilities, ...capabilities.map((name) => `CAP_${name}` as const)],
    'the name of a capability such as MKNOD',
  ),
  v.transform((name) => name.replace(/^CAP_/, '') as Cap),
)
const ID_MAP = matching(/^\d+ \d+ \d+(, *\d+ \d+ \d+)*$/, 'INSIDE OUTSIDE COUNT, several with a comma')
const DEVICE_RULE = /^[abc] (\d+|\*):(\d+|\*) ([rwm]+)$/
const errnoNames = Object.keys(errnos) as ErrnoName[]

/** What a handler may ask about a file that a call names. The first word of each list is the usual one. */
const PathFacts = v.pipe(
  v.strictObject(
    {
      errno: v.exactOptional(v.pipe(oneOf(errnoNames), v.description('the errno with which the lookup fails'))),
      owner: v.exactOptional(
        v.pipe(
          oneOf(['mapped', 'unmapped']),
          v.description("whether the file's owner and group are mapped in the container"),
        ),
      ),
      devices: v.exactOptional(
        v.pipe(
          oneOf(['open', 'nodev', 'nodevOfRuntime', 'tmpfsOfContainer', 'overlayOfContainer']),
          v.description('what the file system lets a device node in the directory do, and who mounted it'),
        ),
      ),
      mountedBy: v.exactOptional(
        v.pipe(
          oneOf(['host', 'container', 'intercede']),
          v.description('who mounted the file system: intercede for a tmpfs of mount.allowed'),
        ),
      ),
      times: v.exactOptional(
        v.pipe(oneOf(['relatime', 'noatime', 'strictatime']), v.description('how its mount keeps access times')),
      ),
      source: v.exactOptional(
        v.pipe(
          oneOf(['device', 'closedDevice', 'otherFile']),
          v.description(
            'what the source of a mount is: a block device that the caller may open, or may not, or no device',
          ),
        ),
      ),
    },
    'a map of facts about a path',
  ),
  v.check((given) => !('errno' in given) || Object.keys(given).length === 1, 'errno alone, or what it leads to'),
)

const parameter = v.pipe(
  v.string('KEY or KEY=VALUE'),
  v.transform((text): readonly [string, string?] => {
    const [key = '', ...rest] = text.split('=')
    return rest.length === 0 ? [key] : [key, rest.join('=')]
  }),
)
const type = v.string('the name of a file system')

/** What a descriptor of the caller is: exactly one of these. */
const DescriptorFacts = v.pipe(
  v.strictObject(
    {
      context: v.exactOptional(
        v.strictObject(
          {
            type,
            parameters: v.optional(v.array(parameter, 'a list'), []),
            state: v.optional(oneOf(['open', 'created', 'mounted', 'failed']), 'open'),
            picked: v.optional(yesOrNo, 'false'),
          },
          'a map of type, parameters, state and picked',
        ),
      ),
      mount: v.exactOptional(
        v.strictObject(
          {
            type,
            nodev: v.optional(yesOrNo, 'true'),
            shift: v.optional(yesOrNo, 'false'),
            changeable: v.optional(yesOrNo, 'true'),
          },
          'a map of type, nodev, shift and changeable',
        ),
      ),
      program: v.exactOptional(word),
      link: v.exactOptional(word),
      cgroup: v.exactOptional(
        v.strictObject(
          {
            where: oneOf(['below', 'own', 'outside', 'removed']),
            /** The ids of the programs that are attached to it. */
            programs: v.optional(v.array(word, 'a list'), []),
            /** Whether they are attached with BPF_F_ALLOW_MULTI, and whether those above are. */
            multi: v.optional(yesOrNo, 'true'),
            multiAbove: v.optional(yesOrNo, 'true'),
          },
          'a map of where, programs, multi and multiAbove',
        ),
      ),
      is: v.exactOptional(oneOf(['other', 'closed'])),
    },
    'a map of what the descriptor is',
  ),
  v.check(
    (given) => ['context', 'mount', 'program', 'link', 'cgroup', 'is'].filter((kind) => kind in given).length === 1,
    'one of context, mount, program, link, cgroup and is',
  ),
)

const task = v.pipe(
  v.strictObject({
    policy: oneOf(Object.keys(SCHED).map((name) => `SCHED_${name}`)),
    priority: v.optional(number(0, RT_PRIORITY_MAX), 0),
  }),
  v.check(
    ({ policy, priority }) => /FIFO|RR/.test(policy) === priority > 0,
    'a priority from 1 with SCHED_FIFO and SCHED_RR, and none with other policies',
  ),
)

/** A limit as a list of a policy has it, without the name of its resource. */
const hardLimit = v.pipe(
  v.union([v.string(), v.number()], 'a limit such as 4096, 2G or unlimited'),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    const limit = limitValue(String(value))
    if (limit !== undefined) return limit
    addIssue({ message: 'a limit such as 4096, 2G or unlimited' })
    return NEVER
  }),
)

/** What a caller is like. What is not described is as `USUAL` says, or the handler's question has no answer. */
export const CallerFacts = v.strictObject(
  {
    capabilities: v.exactOptional(
      v.pipe(
        v.union([oneOf(['all', 'none']), v.array(cap)], 'all, none, or a list of capabilities such as MKNOD'),
        v.description('its effective capabilities, in its user namespace'),
      ),
    ),
    userNamespace: v.exactOptional(
      v.pipe(
        oneOf(['container', 'nested', 'host']),
        v.description("where it is: in the container's initial user namespace, in one below, or in the host's"),
      ),
    ),
    mountNamespace: v.exactOptional(
      v.pipe(oneOf(['container', 'host']), v.description('who owns its mount namespace')),
    ),
    deviceRules: v.exactOptional(
      v.pipe(
        v.union(
          [oneOf(['all', 'none']), v.array(matching(DEVICE_RULE, 'TYPE MAJOR:MINOR ACCESS'))],
          'all, none, or a list of rules such as "c 10:200 rwm"',
        ),
        v.description('what the device rules of its control groups allow, such as "c 10:200 rwm"'),
      ),
    ),
    uidMap: v.exactOptional(v.pipe(ID_MAP, v.description("the container's user ids, as in /proc/PID/uid_map"))),
    gidMap: v.exactOptional(v.pipe(ID_MAP, v.description("the container's group ids, as in /proc/PID/gid_map"))),
    path: v.exactOptional(v.pipe(PathFacts, v.description('what every path of the call leads to'))),
    paths: v.exactOptional(
      v.pipe(
        mapOf(v.record(v.string(), PathFacts), 'a map of paths'),
        v.description('what one path leads to, as it stands in the call'),
      ),
    ),
    task: v.exactOptional(
      v.pipe(
        v.union([oneOf(['none']), task], 'none, or a map of policy and priority'),
        v.description('how the task that a scheduling call names is scheduled now; none if it is not there'),
      ),
    ),
    hardLimit: v.exactOptional(
      v.pipe(
        hardLimit,
        v.description('the hard limit that the process has by now on the resource that the call names'),
      ),
    ),
    descriptors: v.exactOptional(
      v.pipe(
        mapOf(v.record(matching(/^\d+$/, 'a number'), DescriptorFacts), 'a map of descriptors'),
        v.description('what descriptors are, by their numbers'),
      ),
    ),
    cgroup: v.exactOptional(
      v.pipe(
        oneOf(['own', 'noCgroup', 'rootCgroup', 'sharedCgroup', 'crowdedCgroup']),
        v.description('whether the container has a cgroup of its own, or the reason why not'),
      ),
    ),
    programs: v.exactOptional(
      v.pipe(v.array(word, 'a list'), v.description('the ids of the device programs that the container has loaded')),
    ),
    fuse: v.exactOptional(
      v.pipe(
        oneOf(['ready', ...reasonCodes.filter((code) => code.startsWith('fuse'))]),
        v.description('whether a FUSE program can be started for the caller, or the reason why not'),
      ),
    ),
  },
  'a map of facts about the caller',
)
export type DescriptorDescription = v.InferOutput<typeof DescriptorFacts>
export type CallerDescription = v.InferOutput<typeof CallerFacts>
export type PathDescription = v.InferOutput<typeof PathFacts>
