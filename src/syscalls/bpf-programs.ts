import { BPF_CGROUP_DEVICE, BY_ID, INFO, QUERY } from '../abi/bpf-attr.ts'
import { act, continueWith } from '../calls/verdict.ts'
import { noGroup } from './bpf-cgroup.ts'
import { type Command, deny, ours } from './bpf-command.ts'

/**
 * BPF_PROG_QUERY of one cgroup. BPF_F_QUERY_EFFECTIVE is refused, since it would reveal programs of the cgroups
 * above.
 */
export const list: Command = {
  needs: [['SYS_ADMIN'], ['NET_ADMIN']],
  foreign: (view) => {
    const type = view.getUint32(QUERY.type, true)
    return type === BPF_CGROUP_DEVICE ? undefined : continueWith('bpfAttachType', type)
  },
  decide({ at, size, view }, caller) {
    const flags = view.getUint32(QUERY.queryFlags, true)
    if (flags !== 0) return deny('EPERM', 'bpfFlags', flags)
    const target = caller.devicePrograms.group(view.getUint32(QUERY.target, true))
    if (typeof target === 'string') return noGroup(target)
    return act({
      verb: 'listPrograms',
      group: target.group,
      attachFlagsAt: at + BigInt(QUERY.attachFlags),
      countAt: at + BigInt(QUERY.count),
      idsAt: view.getBigUint64(QUERY.ids, true),
      flagsOfEachAt: view.getBigUint64(QUERY.flagsOfEach, true),
      ...(size >= QUERY.revision + 8 ? { revisionAt: at + BigInt(QUERY.revision) } : {}),
      room: view.getUint32(QUERY.count, true),
    })
  },
}

/** BPF_PROG_GET_FD_BY_ID of a program that the container loaded through us. */
export const openById: Command = {
  needs: [['SYS_ADMIN']],
  foreign: ours,
  decide({ view }, { devicePrograms }) {
    const program = devicePrograms.numbered(view.getUint32(BY_ID.id, true))
    return program ? act({ verb: 'openProgram', program }) : continueWith('notOurs')
  },
}

/**
 * BPF_OBJ_GET_INFO_BY_FD: the kernel describes every object to the holder of its descriptor; only we can describe the
 * program behind a stand-in.
 */
export const objectInfoById: Command = {
  needs: [[]],
  foreign: ours,
  decide({ at, view }, { devicePrograms }) {
    const program = devicePrograms.named(view.getUint32(INFO.object, true))
    if (typeof program === 'string') return continueWith(program)
    return act({
      verb: 'describeProgram',
      program,
      infoAt: view.getBigUint64(INFO.info, true),
      length: view.getUint32(INFO.length, true),
      lengthAt: at + BigInt(INFO.length),
    })
  },
}
