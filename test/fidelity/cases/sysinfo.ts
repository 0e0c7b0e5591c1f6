// sysinfo(2), by man-pages and kernel/sys.c.

import { each, type Family } from '../case.ts'

/** Compares what the call says with a file of procfs: shell that prints a number each. */
const compared = (figure: string, file: string, apart: number): string =>
  `awk -v a="$("$SYSINFO" | sed 's/.*"${figure}":\\([0-9]*\\).*/\\1/')" -v b="$(${file})" ` +
  `'BEGIN { print (a - b <= ${apart} && b - a <= ${apart}) ? "of the machine" : "of the container" }'`

const figures = each({ calls: 'sysinfo p:112', why: 'sysinfo' }, [
  { name: 'uptime', shows: compared('uptime', "cut -d' ' -f1 /proc/uptime", 3) },
  {
    name: 'totalram',
    podman: 'group',
    shows: compared('totalram', 'awk \'/^MemTotal/ { printf "%.0f", $2 * 1024 }\' /proc/meminfo', 0),
  },
  { name: 'procs', podman: 'group', shows: compared('procs', "cut -d' ' -f4 /proc/loadavg | cut -d/ -f2", 40) },
])

export const sysinfo: readonly Family[] = [
  {
    name: 'sysinfo',
    cases: [
      { name: 'a pointer to room', calls: 'sysinfo p:112' },
      { name: 'a null pointer', calls: 'sysinfo null' },
      { name: 'a bad address', calls: 'sysinfo bad' },
      { name: 'room that ends too early', calls: 'sysinfo p:60' },
      { name: 'by a user', calls: '@setresuid 1000 1000 1000 , sysinfo p:112' },
      ...figures,
    ],
  },
]
