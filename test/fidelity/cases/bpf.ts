// bpf(2) with device programs, by man-pages and kernel/bpf/syscall.c, kernel/bpf/cgroup.c.

import {
  BPF,
  BPF_CGROUP_DEVICE,
  BPF_F_ALLOW_MULTI,
  BPF_F_ALLOW_OVERRIDE,
  BPF_F_REPLACE,
  BPF_PROG_TYPE_CGROUP_DEVICE,
} from '../../../src/abi/bpf.ts'
import { O_DIRECTORY } from '../../../src/abi/fcntl.ts'
import { AS_USER, BAD_FD, type Case, each, type Family, steps } from '../case.ts'

/** r0 = 1; exit */
const ALLOWS = 'w:0x00000001000000b7/0x95'
interface Program {
  readonly type?: number
  readonly count?: number
  readonly instructions?: string
  readonly licence?: string
  readonly flags?: number
}
const load = (
  { type = BPF_PROG_TYPE_CGROUP_DEVICE, count = 2, instructions = ALLOWS, licence = 's:GPL', flags = 0 }: Program = {},
  size = 72,
): string =>
  `bpf ${BPF.PROG_LOAD} t:4@${type}+4@${count}+8@${instructions}+8@${licence}+4@0+4@0+8@0+4@0+4@${flags}+8@0+8@0+4@0+4@0 ${size}`
const attach = (
  group: string | number,
  program: string | number,
  flags: number = BPF_F_ALLOW_MULTI,
  type: number = BPF_CGROUP_DEVICE,
): string => `bpf ${BPF.PROG_ATTACH} t:4@${group}+4@${program}+4@${type}+4@${flags}+4@0 20`
const detach = (group: string | number, program: string | number): string =>
  `bpf ${BPF.PROG_DETACH} t:4@${group}+4@${program}+4@${BPF_CGROUP_DEVICE}+4@0+4@0 20`
const query = (group: string, flags = 0): string =>
  `bpf ${BPF.PROG_QUERY} t:4@${group}+4@${BPF_CGROUP_DEVICE}+4@${flags}+4@0+8@p:16+4@2+4@0+8@0+8@0+8@0+8@0 64`

const link = (group: string, program: string): string =>
  `bpf ${BPF.LINK_CREATE} t:4@${program}+4@${group}+4@${BPF_CGROUP_DEVICE}+4@0 16`

const loads: readonly Case[] = [
  { name: 'PROG_LOAD', calls: load(), podman: 'group' },
  { name: 'PROG_LOAD without an end', calls: load({ count: 1 }), podman: 'group' },
  { name: 'PROG_LOAD of no instructions', calls: load({ count: 0 }), podman: 'group' },
  { name: 'PROG_LOAD of instructions at a bad address', calls: load({ instructions: 'bad' }), podman: 'group' },
  { name: 'PROG_LOAD of a licence at a bad address', calls: load({ licence: 'bad' }), podman: 'group' },
  { name: 'PROG_LOAD with a flag that there is not', calls: load({ flags: 0x10000 }) },
  { name: 'PROG_LOAD of a type that there is not', calls: load({ type: 9999 }), why: 'bpf' },
  { name: 'PROG_LOAD of a socket filter', calls: load({ type: 1 }), why: 'bpf' },
  { name: 'PROG_LOAD of a kprobe', calls: load({ type: 2 }), why: 'bpf' },
  { name: 'PROG_LOAD by a user', calls: steps(AS_USER, load()) },
  { name: 'MAP_CREATE', calls: 'bpf 0 t:4@2+4@4+4@4+4@1 16', why: 'bpf' },
  // Beyond every number that there is: others may load programs meanwhile.
  { name: 'PROG_GET_NEXT_ID', calls: 'bpf 11 t:4@2147483646+4@0+4@0 12', why: 'bpf' },
  { name: 'a command that there is not', calls: 'bpf 9999 t:8@0 8' },
]

const GROUP = 'mkdir g; mount -t cgroup2 x g; mkdir g/intercede-fidelity; chmod 755 .'
const inGroup = (...calls: readonly string[]): string =>
  steps(`@openat -100 s:g/intercede-fidelity ${O_DIRECTORY}`, ...calls)
const attachments: readonly Case[] = each({ before: GROUP, shows: 'rmdir g/intercede-fidelity', podman: 'group' }, [
  {
    name: 'PROG_ATTACH with ALLOW_MULTI, PROG_QUERY, PROG_DETACH',
    calls: inGroup(load(), attach('=0', '=1'), query('=0'), detach('=0', '=1')),
  },
  { name: 'PROG_ATTACH with ALLOW_OVERRIDE', calls: inGroup(load(), attach('=0', '=1', BPF_F_ALLOW_OVERRIDE)) },
  { name: 'PROG_ATTACH with no flag', calls: inGroup(load(), attach('=0', '=1', 0)) },
  {
    name: 'PROG_ATTACH with both flags',
    calls: inGroup(load(), attach('=0', '=1', BPF_F_ALLOW_MULTI | BPF_F_ALLOW_OVERRIDE)),
  },
  { name: 'PROG_ATTACH twice', calls: inGroup(load(), attach('=0', '=1'), attach('=0', '=1')) },
  {
    name: 'PROG_ATTACH of two programs',
    calls: inGroup(load(), load(), attach('=0', '=1'), attach('=0', '=2'), query('=0')),
  },
  {
    name: 'PROG_ATTACH with REPLACE, where there is none',
    calls: inGroup(load(), attach('=0', '=1', BPF_F_ALLOW_MULTI | BPF_F_REPLACE)),
    why: 'program',
  },
  { name: 'PROG_ATTACH of a program that is none', calls: inGroup(attach('=0', '=0')), why: 'program' },
  { name: 'PROG_ATTACH of a descriptor that is not open', calls: inGroup(attach('=0', BAD_FD)) },
  { name: 'PROG_ATTACH to a descriptor that is not open', calls: inGroup(load(), attach(BAD_FD, '=1')) },
  {
    name: 'PROG_ATTACH to a directory that is no group',
    calls: inGroup(load(), `@openat -100 s:. ${O_DIRECTORY}`, attach('=2', '=1')),
  },
  { name: 'PROG_ATTACH as another type', calls: inGroup(load(), attach('=0', '=1', BPF_F_ALLOW_MULTI, 0)) },
  { name: 'PROG_DETACH of what is not attached', calls: inGroup(load(), detach('=0', '=1')) },
  {
    name: 'PROG_DETACH of a descriptor that is not open, where a program is attached',
    calls: inGroup(load(), attach('=0', '=1'), detach('=0', BAD_FD)),
  },
  { name: 'PROG_QUERY of a group without programs', calls: inGroup(query('=0')) },
  { name: 'PROG_QUERY with a flag that there is not', calls: inGroup(query('=0', 2)) },
  { name: 'LINK_CREATE', calls: inGroup(load(), link('=0', '=1')) },
  {
    name: 'LINK_UPDATE with an old program, without REPLACE',
    calls: inGroup(load(), link('=0', '=1'), `bpf ${BPF.LINK_UPDATE} t:4@=2+4@=1+4@0+4@=1 16`),
  },
])

export const bpf: readonly Family[] = [{ name: 'bpf', cases: [...loads, ...attachments] }]
