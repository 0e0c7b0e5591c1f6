// node scripts/test-summary.js FOLDER: adds up the JSON reports of vitest in FOLDER, one per Node. Names every test that
// was skipped (by our convention its reason stands in its name) and failed, and ends with "N passed, N failed, N skipped".
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

const [folder] = process.argv.slice(2)
const count = { passed: 0, failed: 0, skipped: 0 }

for (const name of readdirSync(folder).sort()) {
  const report = JSON.parse(readFileSync(join(folder, name), 'utf8'))
  for (const file of report.testResults) {
    const where = `${name.replace('.json', '')} ${relative('.', file.name)}`
    // A file that could not be loaded has no tests, but it has failed.
    if (file.status === 'failed' && file.assertionResults.length === 0) {
      count.failed++
      console.log(`failed: ${where}: ${file.message}`)
    }
    for (const { status, fullName } of file.assertionResults) {
      const outcome = status === 'passed' || status === 'failed' ? status : 'skipped'
      count[outcome]++
      if (outcome !== 'passed') console.log(`${outcome}: ${where}: ${fullName}`)
    }
  }
}

const { passed, failed, skipped } = count
if (passed === 0) console.log('No test was run')
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
