// node scripts/test-summary.js FOLDER: adds up the JSON reports of vitest in FOLDER: NAME.json of each Node, and
// NAME.again.json of the files that were run a second time, alone, because a test of them had failed. Names every test that
// was skipped, failed, with what it said, or passed only the second time, counts what was skipped by the reasons in the
// names, and ends with "N passed, N failed, N skipped".
//
// node scripts/test-summary.js --failed REPORT: prints the files in which a test failed, each in a line.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { skipReasons } from './skip-reasons.js'

/** What a failed test said is shown so far. */
const SHOWN_LINES = 12
/** How vitest calls the files in which a test failed, or that could not be loaded. */
const FAILED = 'failed'

/** With INTERCEDE_LACKS the files are in a copy, another one at each run. */
const COPY = /^\/var\/tmp\/intercede-older-[^/]+/
const filesOf = (report) =>
  JSON.parse(readFileSync(report, 'utf8')).testResults.map((file) => ({
    ...file,
    name: file.name.replace(COPY, process.cwd()),
  }))

function shown(messages) {
  const lines = stripVTControlCharacters(messages.join('\n')).split('\n')
  return lines
    .slice(0, SHOWN_LINES)
    .map((line) => `    ${line}`)
    .join('\n')
}

function summary(folder) {
  const count = { passed: 0, failed: 0, skipped: 0 }
  const skippedNames = []
  /** Printed after what was skipped: of a long log often only the end is kept. */
  const failures = []
  let again = 0
  for (const name of readdirSync(folder).sort()) {
    if (name.endsWith('.again.json')) continue
    const second = join(folder, name.replace('.json', '.again.json'))
    const repeated = new Map(existsSync(second) ? filesOf(second).map((file) => [file.name, file]) : [])
    for (const first of filesOf(join(folder, name))) {
      const where = `${name.replace('.json', '')} ${relative('.', first.name)}`
      const file = repeated.get(first.name) ?? first
      // A file that could not be loaded has no tests, but it has failed.
      if (file.status === FAILED && file.assertionResults.length === 0) {
        count.failed++
        failures.push(`failed: ${where}:\n${shown([file.message])}`)
      }
      for (const { status, fullName, failureMessages, meta } of file.assertionResults) {
        const outcome = status === 'passed' || status === FAILED ? status : 'skipped'
        count[outcome]++
        if (outcome === 'skipped') {
          const name = meta.skipped === undefined ? fullName : `${fullName} [skipped: ${meta.skipped}]`
          skippedNames.push(name)
          console.log(`skipped: ${where}: ${name}`)
        }
        if (outcome === FAILED) failures.push(`failed: ${where}: ${fullName}\n${shown(failureMessages)}`)
      }
      if (file === first) continue
      const failed = first.assertionResults.filter(({ status }) => status === FAILED)
      // What comes before or after the tests may have failed, and no test of the file.
      const named = failed.length > 0 ? failed : [{ fullName: 'the file itself', failureMessages: [first.message] }]
      again += named.length
      for (const { fullName, failureMessages } of named)
        failures.push(`run a second time, alone: ${where}: ${fullName}: at first it failed:\n${shown(failureMessages)}`)
    }
  }
  for (const line of [...skipReasons(skippedNames), ...failures]) console.log(line)
  const { passed, failed, skipped } = count
  if (passed === 0) console.log('No test was run')
  if (again > 0) console.log(`${again} of these failed the first time, and their files were run again, alone`)
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  return failed > 0 || passed === 0 ? 1 : 0
}

const [first, report] = process.argv.slice(2)
if (first === '--failed') {
  for (const { name, status } of filesOf(report)) if (status === FAILED) console.log(name)
} else process.exitCode = summary(first)
