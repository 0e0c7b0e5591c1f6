import { briefly, didYouMean } from '../shared/texts.ts'
import { elements, type ValueType, valueType } from './value-types.ts'

const words = (text: string): readonly string[] => text.trim().split(/\s+/)

/** The values of an option of bpffs, in the kernel's order: the number of a value is its bit. */
interface Delegation {
  /** The option, which is also the end of the key's name. */
  readonly option: 'delegate_cmds' | 'delegate_maps' | 'delegate_progs' | 'delegate_attachs'
  readonly member: 'delegateCmds' | 'delegateMaps' | 'delegateProgs' | 'delegateAttachs'
  readonly names: readonly string[]
  /** The values that a list may have. */
  readonly listable: ReadonlySet<string>
}

/** The commands for which the kernel asks a token. The others open an object by its number, or need no token. */
const commands: Delegation = {
  option: 'delegate_cmds',
  member: 'delegateCmds',
  names: words(`
    map_create map_lookup_elem map_update_elem map_delete_elem map_get_next_key prog_load obj_pin obj_get prog_attach
    prog_detach prog_test_run prog_get_next_id map_get_next_id prog_get_fd_by_id map_get_fd_by_id
    obj_get_info_by_fd prog_query raw_tracepoint_open btf_load btf_get_fd_by_id task_fd_query
    map_lookup_and_delete_elem map_freeze btf_get_next_id map_lookup_batch map_lookup_and_delete_batch
    map_update_batch map_delete_batch link_create link_update link_get_fd_by_id link_get_next_id enable_stats
    iter_create link_detach prog_bind_map token_create
  `),
  listable: new Set(words('map_create prog_load btf_load')),
}

/** Left out are maps for programs that trace, cpumap, which starts threads of the kernel, and arena, of up to 4 GiB. */
const maps: Delegation = {
  option: 'delegate_maps',
  member: 'delegateMaps',
  names: words(`
    unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash
    lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage
    reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage
    task_storage bloom_filter user_ringbuf cgrp_storage arena
  `),
  listable: new Set(
    words(`
      hash array prog_array perf_event_array percpu_hash percpu_array cgroup_array lru_hash lru_percpu_hash lpm_trie
      array_of_maps hash_of_maps devmap sockmap xskmap sockhash cgroup_storage reuseport_sockarray
      percpu_cgroup_storage queue stack sk_storage devmap_hash ringbuf bloom_filter user_ringbuf cgrp_storage
    `),
  ),
}

/**
 * Left out are programs that trace or extend the kernel, those that call bpf(2) themselves, infrared receivers, and
 * device rules: a container could take its own off.
 */
const programs: Delegation = {
  option: 'delegate_progs',
  member: 'delegateProgs',
  names: words(`
    unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out
    lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2
    sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm
    sk_lookup syscall netfilter
  `),
  listable: new Set(
    words(`
      socket_filter sched_cls sched_act xdp cgroup_skb cgroup_sock lwt_in lwt_out lwt_xmit sock_ops sk_skb sk_msg
      cgroup_sock_addr lwt_seg6local sk_reuseport flow_dissector cgroup_sysctl cgroup_sockopt sk_lookup netfilter
    `),
  ),
}

const attachments: Delegation = {
  option: 'delegate_attachs',
  member: 'delegateAttachs',
  names: words(`
    cgroup_inet_ingress cgroup_inet_egress cgroup_inet_sock_create cgroup_sock_ops sk_skb_stream_parser
    sk_skb_stream_verdict cgroup_device sk_msg_verdict cgroup_inet4_bind cgroup_inet6_bind cgroup_inet4_connect
    cgroup_inet6_connect cgroup_inet4_post_bind cgroup_inet6_post_bind cgroup_udp4_sendmsg cgroup_udp6_sendmsg
    lirc_mode2 flow_dissector cgroup_sysctl cgroup_udp4_recvmsg cgroup_udp6_recvmsg cgroup_getsockopt
    cgroup_setsockopt trace_raw_tp trace_fentry trace_fexit modify_return lsm_mac trace_iter
    cgroup_inet4_getpeername cgroup_inet6_getpeername cgroup_inet4_getsockname cgroup_inet6_getsockname xdp_devmap
    cgroup_inet_sock_release xdp_cpumap sk_lookup xdp sk_skb_verdict sk_reuseport_select
    sk_reuseport_select_or_migrate perf_event trace_kprobe_multi lsm_cgroup struct_ops netfilter tcx_ingress
    tcx_egress trace_uprobe_multi cgroup_unix_connect cgroup_unix_sendmsg cgroup_unix_recvmsg
    cgroup_unix_getpeername cgroup_unix_getsockname netkit_primary netkit_peer trace_kprobe_session
    trace_uprobe_session
  `),
  listable: new Set(
    words(`
      cgroup_inet_ingress cgroup_inet_egress cgroup_inet_sock_create cgroup_sock_ops sk_skb_stream_parser
      sk_skb_stream_verdict sk_msg_verdict cgroup_inet4_bind cgroup_inet6_bind cgroup_inet4_connect
      cgroup_inet6_connect cgroup_inet4_post_bind cgroup_inet6_post_bind cgroup_udp4_sendmsg cgroup_udp6_sendmsg
      flow_dissector cgroup_sysctl cgroup_udp4_recvmsg cgroup_udp6_recvmsg cgroup_getsockopt cgroup_setsockopt
      cgroup_inet4_getpeername cgroup_inet6_getpeername cgroup_inet4_getsockname cgroup_inet6_getsockname
      xdp_devmap cgroup_inet_sock_release sk_lookup xdp sk_skb_verdict sk_reuseport_select
      sk_reuseport_select_or_migrate netfilter tcx_ingress tcx_egress cgroup_unix_connect cgroup_unix_sendmsg
      cgroup_unix_recvmsg cgroup_unix_getpeername cgroup_unix_getsockname netkit_primary netkit_peer
    `),
  ),
}

/** The four options of bpffs that delegate something to the holders of tokens; a reason has the index of one. */
export const delegations: readonly Delegation[] = [commands, maps, programs, attachments]

const LOWEST = new Set<string>()

const listOf = ({ listable, names }: Delegation): ValueType<ReadonlySet<string>> =>
  valueType({
    isList: true,
    allowed:
      listable.size > 3
        ? `a list of names such as ${[...listable][0]}; docs/guide/bpf-tokens.md has all`
        : `a list of ${[...listable].join(', ')}`,
    offered: [...listable],
    parse: (text) =>
      new Set(
        elements(text).map((name) => {
          if (listable.has(name)) return name
          if (name === 'any' || names.includes(name)) throw new RangeError(`${briefly(name)} is not for containers`)
          throw new RangeError(`${briefly(name)} is unknown${didYouMean(name, listable)}`)
        }),
      ),
    format: (set) => [...set].join(','),
    lowest: LOWEST,
    lowers: (from, to) => [...to].every((name) => from.has(name)),
    meet: (one, other) => new Set([...one].filter((name) => other.has(name))),
  })

export const [delegatedCommands, delegatedMaps, delegatedPrograms, delegatedAttachments] = delegations.map(
  listOf,
) as unknown as readonly [
  ValueType<ReadonlySet<string>>,
  ValueType<ReadonlySet<string>>,
  ValueType<ReadonlySet<string>>,
  ValueType<ReadonlySet<string>>,
]
