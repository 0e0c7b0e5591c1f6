import { type Diagnosis, examine, type Report } from '../doctor/doctor.ts'
import { thisHost } from '../doctor/host-facts.ts'
import { print } from './print.ts'
import { STATUS } from './usage.ts'

function lines({ name, health, needed, found, follows, remedy }: Diagnosis): readonly string[] {
  const label = needed && health !== 'ok' ? 'NEEDED' : health
  const head = `  ${label.padEnd(8)} ${name}${found ? `: ${found}` : ''}`
  return health === 'ok' ? [head] : [head, `             ${follows}`, `             -> ${remedy}`]
}

function conclusion({ able, ableForUser }: Report): string {
  if (able) return 'intercede run and serve can work here'
  if (ableForUser) return 'only intercede serve --user can work here: it serves sysinfo and mount.fuse'
  return 'intercede cannot work here: see the lines marked NEEDED'
}

function text(report: Report): string {
  const { kernel, arch, node, diagnoses } = report
  return [`Linux ${kernel} on ${arch}, Node ${node}`, ...diagnoses.flatMap(lines), conclusion(report)].join('\n')
}

export function doctorCommand({ json }: { readonly json?: boolean }): void {
  const report = examine(thisHost)
  process.exitCode = report.able || report.ableForUser ? 0 : STATUS.no
  print(`${json ? JSON.stringify(report, undefined, 2) : text(report)}\n`)
}
